"""Who answers, the handler that returns or the watchdog that gave up on it; never both."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.support import BOUND, Context, eventually
from tests.threads.gates import Gate
from watchdog_lambda import watch
from watchdog_lambda._lambda import fallback_answer
from watchdog_lambda._lambda import last_resort as last_resort_module
from watchdog_lambda._lambda.last_resort import Exit
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog_lambda._engine.invocation import Firing


ACCEPTED = 202


class Api:
    """Stands in for Lambda's API: holds each post, and refuses it if the test says so."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.refusal: Exception | None = None
        self.status = ACCEPTED
        self.posted: list[str] = []

    def post(self, path: str, body: bytes, *_rest: object) -> tuple[int, str]:
        self.gate.hold()
        if self.refusal is not None:
            raise self.refusal
        if self.status == ACCEPTED:
            self.posted.append(f"{path.split('/')[1]}: {json.loads(body)['errorType']}")
        return self.status, "what Lambda says"


class Gone(Exception):
    """Stands for the process's end, which a test cannot have."""


class StayingOn(Exit):
    """A last resort that waits at a gate instead of ending the process."""

    def __init__(self, api: Any) -> None:
        super().__init__(api, 0.0)
        self.end = Gate()

    def _leave(self, firing: Firing, remark: str) -> NoReturn:
        del remark
        self.end.hold()
        # Otherwise a handler that has returned would wait forever for the process's end.
        firing.give_answer_back()
        raise Gone


@pytest.fixture
def api() -> Iterator[Api]:
    """Return the API that the last resort posts to."""
    api = Api()
    yield api
    api.gate.open()


@pytest.fixture(autouse=True)
def last_resort(api: Api) -> Iterator[StayingOn]:
    """Replace the process's last resort by one with the test's API."""
    before = process_watchdog.last_resort
    process_watchdog.last_resort = last_resort = StayingOn(api)
    yield last_resort
    last_resort.end.open()
    process_watchdog.last_resort = before


def run_off_the_main_thread(free: threading.Event) -> tuple[threading.Thread, list[object]]:
    """Start a call in another thread that no interrupt ends before `free` is set."""
    results: list[object] = []

    def handler(_event: object, _context: object) -> str:
        # This is one blocked call, which an injection does not interrupt.
        free.wait(BOUND)
        return "the handler's own"

    call = watch(interrupt="none", last_resort="exit")(handler)
    worker = threading.Thread(target=lambda: results.append(call({}, Context(1.5))), daemon=True)
    worker.start()
    return worker, results


def test_handler_returning_during_last_resort_does_not_answer(
    last_resort: StayingOn, api: Api
) -> None:
    """A handler that returns while the watchdog posts the answer waits, and does not answer."""
    free = threading.Event()
    worker, results = run_off_the_main_thread(free)
    api.gate.wait_until_reached()
    firing = next(iter(process_watchdog.escalations)).firing
    assert firing is not None

    free.set()
    eventually(lambda: not firing.invocation.is_open, "the handler to return")
    assert results == []
    api.gate.open()
    eventually(lambda: api.posted == ["request-1: LambdaTimeout"], "the answer to be posted")

    worker.join(0.1)
    assert worker.is_alive(), "the handler did not wait for the process to exit"
    assert results == []
    last_resort.end.open()
    worker.join(BOUND)


@pytest.mark.parametrize(
    "refusal",
    [403, ConnectionRefusedError("connection refused"), ValueError("Invalid header value")],
    ids=lambda refusal: type(refusal).__name__,
)
def test_handler_answers_if_the_post_fails(api: Api, refusal: Exception | int) -> None:
    """If the post fails, the handler's result is the answer."""
    if isinstance(refusal, int):
        api.status = refusal
    else:
        api.refusal = refusal
    free = threading.Event()
    worker, results = run_off_the_main_thread(free)
    api.gate.wait_until_reached()

    free.set()
    api.gate.open()

    worker.join(BOUND)
    assert results == ["the handler's own"]
    assert api.posted == []


def test_handler_that_returns_first_answers_itself(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the handler returns before the watchdog claims the answer, nothing is posted."""
    gate = Gate()
    real = fallback_answer.make_fallback

    def held(*arguments: Any) -> Any:
        gate.hold()
        return real(*arguments)

    monkeypatch.setattr(last_resort_module, "make_fallback", held)
    free = threading.Event()
    worker, results = run_off_the_main_thread(free)
    gate.wait_until_reached()

    free.set()
    worker.join(BOUND)
    assert results == ["the handler's own"]

    gate.open()
    eventually(lambda: not process_watchdog.escalations, "the watchdog to finish")
    assert api.posted == []
