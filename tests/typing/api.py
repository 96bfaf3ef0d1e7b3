"""Shows the types that type checkers see in the public API.

Mypy and pyright check it, and it is never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from watchdog_lambda import (
    LambdaTimeout,
    TimeoutDetails,
    Watchdog,
    catch_timeout,
    remaining_time,
    scoped_hook,
    shield,
    shutdown_hook,
    watch,
)
from watchdog_lambda.batch import (
    AsyncBatchProcessor,
    BatchProcessor,
    EventType,
    SqsFifoPartialProcessor,
    async_process_partial_response,  # pyright: ignore[reportUnknownVariableType]
    process_partial_response,  # pyright: ignore[reportUnknownVariableType]
)
from watchdog_lambda.testing import (
    Clock,
    FakeContext,
    async_expire,
    clock,
    expire,
    isolated_hooks,
    timeout_records,
)
from watchdog_lambda.typing import Handler, LambdaContext, ShutdownHook

if TYPE_CHECKING:
    from collections.abc import Callable


@watch
def plain(event: dict[str, int], context: LambdaContext) -> str:
    return str(event) + str(context)


@watch(grace_period=2.0, interrupt="base", fallback={"statusCode": 504})
def optioned(event: dict[str, int], context: LambdaContext, *, dry_run: bool = False) -> int:
    return len(event) + int(dry_run)


@watch
async def loads(event: str, context: LambdaContext) -> bytes:
    return f"{event}{context}".encode()


@watch(grace_period=2.0)
async def saves(event: str, context: LambdaContext) -> int:
    return len(f"{event}{context}")


watchdog = Watchdog(grace_period=2.0, fallback=lambda details: details.location)


@watchdog.watch
def other(event: bytes, context: object) -> None:
    del event, context


@shutdown_hook
def flush(details: TimeoutDetails) -> None:
    assert_type(details.elapsed, float)
    assert_type(details.stack, tuple[str, ...])


@shutdown_hook(before=10.0)
def warn(details: TimeoutDetails) -> str:
    return details.location


@watchdog.shutdown_hook(before=1.0)
def last(_details: TimeoutDetails) -> None: ...


def release(lock_id: str, *, force: bool = False) -> None:
    del lock_id, force


def uses(context: LambdaContext) -> None:
    assert_type(plain({"a": 1}, context), str)
    assert_type(optioned({}, context, dry_run=True), int)
    assert_type(loads("a", context), bytes)
    assert_type(saves("a", context), int)
    assert_type(remaining_time(), float)
    with shield(), scoped_hook(release, "lock-1", force=True):
        pass
    with catch_timeout() as timeout_:
        plain({"a": 1}, context)
    if timeout_:
        assert_type(timeout_.details, TimeoutDetails | None)
    try:
        other(b"", None)
    except LambdaTimeout as timeout:
        assert_type(timeout.details, TimeoutDetails | None)


hook: ShutdownHook = flush
handler: Handler = plain


@watch(metrics_namespace="Orders")
def batches(event: dict[str, object], context: LambdaContext) -> int:
    del context
    response = process_partial_response(event, print, BatchProcessor(EventType.SQS))
    return len(response["batchItemFailures"])


def processes(event: dict[str, object]) -> None:
    fifo = SqsFifoPartialProcessor(skip_group_on_error=True)
    with fifo([], print) as processor:
        processor.process()
    assert_type(fifo.response()["batchItemFailures"][0]["itemIdentifier"] == "1", bool)
    concurrent = AsyncBatchProcessor(
        EventType.Kafka, raise_on_entire_batch_failure=False, record_time_limit=5.0
    )
    async_process_partial_response(event, print, concurrent)


async def fetch(_url: str) -> None: ...


async def tests() -> None:
    context: LambdaContext = FakeContext(3.0, function_name="orders", memory_limit_in_mb=512)
    assert_type(plain({"a": 1}, context), str)
    blocking: Callable[[str], object] = expire
    waiting: Callable[[str], object] = fetch
    waiting = async_expire
    await async_expire("https://example.org")
    moved: Clock = clock
    assert_type(moved.advance(5), None)
    assert_type(expire("orders", limit=7), None)
    with timeout_records() as timeouts, isolated_hooks():
        assert_type(timeouts, list[dict[str, Any]])
    del blocking, waiting
