"""Powertools' idempotency in a timeout: which interrupts leave a record in progress."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import threading
import warnings
from typing import Any

import pytest
from aws_lambda_powertools.utilities.idempotency import (
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
)

from tests import events
from tests.support import BOUND, Context, block
from watchdog_lambda import Interrupt, LambdaTimeout, batch, watch

try:
    from aws_lambda_powertools.utilities.idempotency.persistence.cache import CachePersistenceLayer
except ModuleNotFoundError:  # as early 3.x releases name it
    from aws_lambda_powertools.utilities.idempotency.persistence.redis import (
        RedisCachePersistenceLayer as CachePersistenceLayer,
    )

SECONDS = 0.4


class Store:
    """A cache server, as far as Powertools' layer uses its client."""

    def __init__(self) -> None:
        self.items: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self.items.get(name)

    def set(self, name: str, value: str, ex: int | None = None, *, nx: bool = False) -> bool | None:
        del ex
        if nx and name in self.items:
            return None
        self.items[name] = value
        return True

    def delete(self, name: str) -> int:
        return 1 if self.items.pop(name, None) else 0

    @property
    def statuses(self) -> list[str]:
        return [json.loads(v)["status"] for k, v in self.items.items() if not k.endswith(":lock")]


@pytest.fixture
def store() -> Store:
    return Store()


def layer(store: Store) -> CachePersistenceLayer:
    client: Any = store
    with warnings.catch_warnings():
        # In Powertools 3 the class to use is an alias of the one whose use it deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        return CachePersistenceLayer(client=client)


def swallow() -> None:
    """Catch each interrupt and try again, as a library that takes it for a network error."""
    while True:
        try:
            block()
        except Exception:
            continue


def charging(store: Store, *, registered: bool = True, translate: bool = False) -> Any:
    """Return a handler whose work must not be done twice."""
    config = IdempotencyConfig()

    @idempotent_function(  # type: ignore[untyped-decorator]
        data_keyword_argument="order", persistence_store=layer(store), config=config
    )
    def charge(*, order: dict[str, Any]) -> str:
        with translated() if translate else contextlib.nullcontext():
            {"block": block, "swallow": swallow}.get(order["do"], lambda: None)()
        return "charged"

    def handler(event: dict[str, Any], context: Any) -> Any:
        if registered:
            config.register_lambda_context(context)
        return charge(order=event)

    return watch(handler)


@contextlib.contextmanager
def translated() -> Any:
    try:
        yield
    except Interrupt as interrupt:
        raise TimeoutError("out of time") from interrupt


def test_lambda_timeout_deletes_the_record(store: Store) -> None:
    """LambdaTimeout is an Exception, so Powertools deletes the record, and a retry may work."""
    handler = charging(store)

    with pytest.raises(LambdaTimeout):
        handler({"id": 1, "do": "block"}, Context(SECONDS))
    assert store.items == {}

    assert handler({"id": 1, "do": "nothing"}, Context(30.0)) == "charged"
    assert store.statuses == ["COMPLETED"]


def test_interrupt_leaves_record_until_hard_deadline(store: Store) -> None:
    """An Interrupt leaves the record in progress, and a retry is refused until the hard deadline.

    Powertools does not catch it, because it is a BaseException.
    """
    handler = charging(store)
    event = {"id": 1, "do": "swallow"}
    context = Context(SECONDS)

    with pytest.raises(LambdaTimeout):
        handler(event, context)
    assert store.statuses == ["INPROGRESS"]
    with pytest.raises(IdempotencyAlreadyInProgressError):
        handler(event, Context(30.0))

    threading.Event().wait(context.get_remaining_time_in_millis() / 1000 + 0.01)
    with pytest.raises(LambdaTimeout):
        handler(event, Context(SECONDS))  # the work is done again


@pytest.mark.skipif(
    tuple(map(int, importlib.metadata.version("aws-lambda-powertools").split(".")[:2])) < (3, 35),
    reason="Powertools before 3.35 treats such a record as expired",
)
def test_record_stays_without_the_lambda_context(store: Store) -> None:
    """Without the context Powertools knows no deadline, so the record stays until it expires.

    That is after an hour.
    """
    handler = charging(store, registered=False)
    event = {"id": 1, "do": "swallow"}
    context = Context(SECONDS)

    with pytest.warns(UserWarning, match="register_lambda_context"), pytest.raises(LambdaTimeout):
        handler(event, context)
    threading.Event().wait(context.get_remaining_time_in_millis() / 1000 + 0.01)

    assert store.statuses == ["INPROGRESS"]
    with (
        pytest.warns(UserWarning, match="register_lambda_context"),
        pytest.raises(IdempotencyAlreadyInProgressError),
    ):
        handler(event, Context(30.0))


def test_interrupt_translated_to_exception_deletes_the_record(store: Store) -> None:
    """An Interrupt that user code turns into an Exception lets Powertools delete the record.

    Outside it is still this timeout.
    """
    handler = charging(store, translate=True)

    with pytest.raises(TimeoutError):
        handler({"id": 1, "do": "swallow"}, Context(SECONDS))

    assert store.items == {}


def test_idempotent_decorator_passes_the_context(store: Store) -> None:
    """``@idempotent`` passes the handler's context to Powertools by itself."""

    @watch
    @idempotent(persistence_store=layer(store))
    def handler(event: dict[str, Any], context: Any) -> None:
        del context
        {"block": block, "swallow": swallow}[event["do"]]()

    with pytest.raises(LambdaTimeout):
        handler({"do": "block"}, Context(SECONDS))
    assert store.items == {}
    with pytest.raises(LambdaTimeout):
        handler({"do": "swallow"}, Context(SECONDS))
    [item] = store.items.values()
    assert json.loads(item)["in_progress_expiration"] > 0


class SlowStore(Store):
    """A store that never answers when the result is saved."""

    def set(self, name: str, value: str, ex: int | None = None, *, nx: bool = False) -> bool | None:
        if "COMPLETED" in value:
            block()
        return super().set(name, value, ex, nx=nx)


def test_interrupt_while_saving_the_result_leaves_the_record() -> None:
    """An Interrupt lands while the result is saved, and the record stays in progress.

    Powertools would take a timeout for an error of its store.
    """
    store = SlowStore()
    handler = charging(store)

    with pytest.raises(LambdaTimeout) as raised:
        handler({"id": 1, "do": "nothing"}, Context(SECONDS))

    assert store.statuses == ["INPROGRESS"]
    assert raised.value.__cause__ is None


def test_batch_keeps_only_completed_records(store: Store) -> None:
    """In a batch completed records stay, and interrupted or unstarted ones have no record."""
    processor = batch.BatchProcessor(batch.EventType.SQS)
    config = IdempotencyConfig(event_key_jmespath="messageId")

    @idempotent_function(  # type: ignore[untyped-decorator]
        data_keyword_argument="record", persistence_store=layer(store), config=config
    )
    def record_handler(record: Any) -> str:
        if record.body == "block":
            block()
        return "done"

    @watch
    def handler(event: Any, context: Any) -> Any:
        config.register_lambda_context(context)
        return batch.process_partial_response(event, record_handler, processor, context)

    response = handler(events.sqs("a", "block", "c"), Context(BOUND / 20))

    failed = [item["itemIdentifier"] for item in response["batchItemFailures"]]
    assert failed == ["message-1", "message-2"]
    assert store.statuses == ["COMPLETED"]
