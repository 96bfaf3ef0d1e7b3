"""The log's schema accepts the lines that are written, and no others."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger

from tests import log_schema
from tests.support import BOUND, BlockedCall, Context, block, eventually
from watchdog_lambda import LambdaTimeout, Watchdog, _report
from watchdog_lambda._engine import history
from watchdog_lambda.testing import expire, timeout_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA: dict[str, Any] = json.loads(log_schema.SCHEMA.read_text(encoding="utf-8"))


def lines_of(capfd: pytest.CaptureFixture[str], call: Callable[[], object]) -> list[dict[str, Any]]:
    """Return the decoded lines that a call writes to the log, checked against the schema."""
    try:
        call()
    except LambdaTimeout:
        pass
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    for record in records:
        log_schema.check(record)
    return records


def swallow(seconds: float) -> None:
    """Swallow every interrupt."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            threading.Event().wait(seconds)
        except BaseException:
            continue


def answer(_event: object, _context: object) -> str:
    try:
        block()
    except TimeoutError:
        pass
    return "answered"


def fail(_event: object, _context: object) -> None:
    block()


def hang(_event: object, _context: object) -> None:
    swallow(1.65)


@pytest.mark.parametrize(
    ("handler", "options", "outcome"),
    [
        (answer, {}, "returned"),
        (fail, {}, "raised"),
        (fail, {"fallback": None}, "fallback"),
        (hang, {}, "stuck"),
        (hang, {"interrupt": "base"}, "stuck"),
        (hang, {"interrupt": "none"}, "stuck"),
    ],
)
def test_schema_accepts_every_outcome(
    capfd: pytest.CaptureFixture[str],
    handler: Callable[..., object],
    options: dict[str, Any],
    outcome: str,
) -> None:
    """The schema accepts the records of every outcome, with hooks that end, fail and hang."""
    release = threading.Event()
    watchdog = Watchdog(grace_period=0.4, **options)
    watchdog.shutdown_hook(lambda _details: release.wait(BOUND))
    watchdog.shutdown_hook(lambda _details: 1 // 0)
    watchdog.shutdown_hook(lambda _details: None)

    try:
        [record] = lines_of(capfd, lambda: watchdog.watch(handler)({}, Context(1.6)))
    finally:
        release.set()

    assert record["outcome"] == outcome
    hanging = "running" if outcome == "stuck" else "timed-out"
    assert [hook["outcome"] for hook in record["hooks"]] == ["ok", "raised", hanging]


def test_schema_accepts_many_interrupts(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema accepts a record with more interrupts than are listed."""
    # A busy machine leaves no time for more than the twenty interrupts that are listed.
    monkeypatch.setattr(history, "MOST_RECORDS", 4)
    watchdog = Watchdog(last_call=0.01)

    [record] = lines_of(capfd, lambda: watchdog.watch(lambda *_: swallow(1.61))({}, Context(1.6)))

    assert record["interrupts_left_out"] >= 1
    assert {interrupt["outcome"] for interrupt in record["interrupts"]} >= {"swallowed"}


@pytest.mark.untraced  # on 3.11 a traced thread does not run while an injection is pending
def test_schema_accepts_an_injected_interrupt(capfd: pytest.CaptureFixture[str]) -> None:
    """The schema accepts a record of an injected interrupt.

    Off the main thread it has an obstacle, and an interrupt that is pending.
    """
    # The watchdog is started here, on the main thread, in good time.
    Watchdog().watch(lambda *_: None)({}, Context(5.0))
    blocked = BlockedCall()
    watched = Watchdog(grace_period=0.1).watch(blocked)

    def run() -> None:
        thread = threading.Thread(target=quietly, args=(watched,))
        with timeout_records() as told:
            thread.start()
            eventually(lambda: told, "the record to be written")
        blocked.let_go()
        thread.join()

    [record] = lines_of(capfd, run)

    assert record["obstacle"].startswith("no nudge")
    assert [interrupt["outcome"] for interrupt in record["interrupts"]] == ["pending"]


def quietly(watched: Callable[..., object]) -> None:
    try:
        watched({}, Context(0.4))
    except LambdaTimeout:
        pass


def test_schema_accepts_a_cut_line(capfd: pytest.CaptureFixture[str]) -> None:
    """The schema accepts a record that was cut, because the context has an endless name."""

    class Endless(Context):
        function_name = "x" * 100_000

    watched = Watchdog().watch(lambda *_: expire())

    [record] = lines_of(capfd, lambda: watched({}, Endless(30.0)))

    assert record["shortened"] is True


@pytest.fixture
def broken_formatter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    logger = Logger(service="broken", level="INFO")

    def broken(_entry: object) -> str:
        raise KeyError

    monkeypatch.setattr(logger.handlers[0].formatter, "format", broken)
    yield
    for handler in list(logger.handlers):
        logger._logger.removeHandler(handler)
    logging.Logger.manager.loggerDict.pop("broken", None)


@pytest.mark.usefixtures("broken_formatter")
def test_schema_accepts_record_after_formatter_failure(capfd: pytest.CaptureFixture[str]) -> None:
    """The schema accepts a record in the package's own format.

    The record says why the formatter was not used.
    """
    watched = Watchdog().watch(lambda *_: expire())

    [record] = lines_of(capfd, lambda: watched({}, Context(30.0)))

    assert record["report_error"] == "KeyError"


@pytest.mark.parametrize("function", ["build", "dumps"])
def test_schema_accepts_the_short_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """The schema accepts the short line that is written if the record cannot be made.

    It also accepts the line that is used if the short one cannot be made.
    """

    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(_report, function, no_memory)
    watched = Watchdog().watch(lambda *_: expire())

    [record] = lines_of(capfd, lambda: watched({}, Context(30.0)))

    assert ("outcome" in record, record["report_error"]) == (function == "build", "MemoryError")


@pytest.mark.parametrize("error", [ValueError("canary"), MemoryError()])
def test_schema_accepts_an_internal_failure(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The schema accepts the line of an internal failure, with its type and place.

    It also accepts the prepared line that is used without memory.
    """
    if isinstance(error, MemoryError):

        def no_memory() -> str:
            raise MemoryError

        monkeypatch.setattr(_report, "timestamp", no_memory)

    [record] = lines_of(capfd, lambda: _report.write_failure(error))

    assert record.get("error") == (None if isinstance(error, MemoryError) else "ValueError")


SAMPLE = {
    "level": "ERROR",
    "message": "watchdog.timeout",
    "timestamp": "2026-01-01T00:00:00.000Z",
    "event": "watchdog.timeout",
    "outcome": "raised",
    "request_id": "",
    "function_name": "",
    "function_version": "",
    "elapsed_ms": 1,
    "remaining_ms": 1,
    "grace_period_ms": 1,
    "location": "",
    "stack": [],
    "threads": {},
    "ended_after_ms": 1,
    "hooks": [],
    "interrupts": [],
}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"surprise": 1}, "'surprise' was unexpected"),
        ({"outcome": "vanished"}, "'vanished' is not one of"),
        ({"elapsed_ms": 0.5}, "not of type 'integer'"),
        ({"ended_after_ms": None}, "not of type 'integer'"),
        ({"last_resort": "exit"}, "False schema"),
        ({"hooks": [{"name": "flush", "outcome": "ok"}]}, "'after_ms' is a required property"),
        ({"event": "watchdog.surprise"}, "not valid under any"),
    ],
)
def test_schema_refuses_undescribed_records(change: dict[str, Any], what: str) -> None:
    """The schema refuses an unknown key, a wrong value and a missing part."""
    log_schema.check(SAMPLE)

    with pytest.raises(AssertionError, match=what):
        log_schema.check({**SAMPLE, **change})
