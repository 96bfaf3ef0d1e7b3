"""Tests of a timeout's record: its contents, and that it is written."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from tests.support import BlockedCall, Context, block, eventually
from watchdog_lambda import LambdaTimeout, Watchdog, _report, watch
from watchdog_lambda._engine import history
from watchdog_lambda._report import stdout
from watchdog_lambda.testing import timeout_records


def blocks(_event: object, _context: object) -> None:
    block()


def records(captured: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in captured.splitlines() if "watchdog.timeout" in line]


def time_out(watched: Any, seconds: float) -> None:
    with pytest.raises(LambdaTimeout):
        watched({"secret": "canary"}, Context(seconds))


def test_record_line_has_every_documented_field(capfd: pytest.CaptureFixture[str]) -> None:
    """One line has every field that the reference lists, and nothing of the event."""
    watchdog = Watchdog(grace_period=0.3)
    watchdog.shutdown_hook(lambda _details: None)
    release = threading.Event()
    other = threading.Thread(target=release.wait, name="poller")
    other.start()

    try:
        time_out(watchdog.watch(blocks), 1.2)
    finally:
        release.set()
    captured = capfd.readouterr().out

    [record] = records(captured)
    assert record["event"] == record["message"] == "watchdog.timeout"
    assert record["outcome"] == "raised"
    assert (record["request_id"], record["function_name"], record["function_version"]) == (
        "request-1",
        "orders",
        "7",
    )
    assert 900 <= record["elapsed_ms"] <= 1200
    assert record["elapsed_ms"] + record["remaining_ms"] == pytest.approx(1200, abs=2)
    assert record["grace_period_ms"] == 300
    assert record["location"].endswith("(block)")
    assert record["stack"][-1] == record["location"]
    assert any("wait" in place for place in record["threads"]["poller"])
    [hook] = record["hooks"]
    assert hook["outcome"] == "ok"
    assert 900 <= hook["after_ms"] <= hook["after_ms"] + hook["duration_ms"] <= 1200
    assert hook["after_ms"] <= record["ended_after_ms"] <= record["elapsed_ms"]
    assert [i["outcome"] for i in record["interrupts"]] == ["delivered"]
    assert "canary" not in captured


def test_swallowed_and_delivered_interrupts_are_distinguished(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Swallowed interrupts are told from the one that ended the handler.

    Their outcomes are ``swallowed`` and ``delivered``.
    """

    def handler(_event: object, _context: object) -> None:
        while True:
            try:
                block()
            except Exception:
                continue

    time_out(watch(grace_period=0.1)(handler), 0.4)

    [record] = records(capfd.readouterr().out)
    assert [(i["exception"], i["outcome"]) for i in record["interrupts"]] == [
        ("LambdaTimeout", "swallowed"),
        ("Interrupt", "delivered"),
    ]


def test_stuck_handler_is_reported_once_before_the_hard_deadline(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A stuck handler is reported once, at last call, before the hard deadline."""

    def handler(_event: object, _context: object) -> str:
        pause = threading.Event()
        until = time.monotonic() + 1.25
        while time.monotonic() < until:
            try:
                pause.wait(0.5)
            except BaseException:
                continue
        return "came back late"

    watched = watch(grace_period=0.3)(handler)
    assert watched({}, Context(1.2)) == "came back late"

    [record] = records(capfd.readouterr().out)
    assert record["outcome"] == "stuck"
    assert record["ended_after_ms"] is None
    assert 0 < record["remaining_ms"] < 60
    assert len(record["interrupts"]) > 2


def test_many_swallowed_interrupts_do_not_flood_the_record(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that swallows everything does not flood the record.

    It has the first and last interrupts, and the number of those in between.
    """
    # A busy machine leaves no time for more than the twenty interrupts that are listed.
    monkeypatch.setattr(history, "MOST_RECORDS", 4)
    caught: list[str] = []

    def handler(_event: object, _context: object) -> str:
        until = time.monotonic() + 1.55
        while time.monotonic() < until:
            try:
                threading.Event().wait(1.0)
            except BaseException as error:
                caught.append(type(error).__name__)
        return "came back"

    assert watch(last_call=0.01)(handler)({}, Context(1.6)) == "came back"

    [record] = records(capfd.readouterr().out)
    assert len(caught) > 4
    assert len(record["interrupts"]) == 4
    assert record["interrupts_left_out"] == len(caught) - 4
    assert record["interrupts"][0]["exception"] == "LambdaTimeout"


@pytest.mark.untraced  # on 3.11 a traced thread does not run while an injection is pending
def test_record_names_the_obstacle_off_the_main_thread(capfd: pytest.CaptureFixture[str]) -> None:
    """Off the main thread the record says that the injected interrupt is pending, and why.

    A blocked call delays it.
    """
    # The watchdog is started here, on the main thread, where it gets its nudge in good time.
    watch(lambda _e, _c: None)({}, Context(5.0))
    blocked = BlockedCall()

    def work() -> None:
        try:
            watch(grace_period=0.1)(blocked)({}, Context(0.4))
        except LambdaTimeout:
            pass

    worker = threading.Thread(target=work)
    with timeout_records() as told:
        worker.start()
        eventually(lambda: told, "the record to be written")
    blocked.let_go()
    worker.join()

    [record] = records(capfd.readouterr().out)
    assert "not on the main thread" in record["obstacle"]
    assert record["outcome"] == "stuck"
    assert [i["outcome"] for i in record["interrupts"]] == ["pending"]


def test_normal_invocation_logs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A handler that ends in time, also by an error of its own, logs nothing."""

    def fail(_event: object, _context: object) -> None:
        raise KeyError("own")

    watch(lambda _e, _c: None)({}, Context(5.0))
    with pytest.raises(KeyError):
        watch(fail)({}, Context(5.0))

    assert capfd.readouterr() == ("", "")


def test_record_is_written_by_the_users_powertools_logger(
    capfd: pytest.CaptureFixture[str], powertools: Logger
) -> None:
    """The record is written by the user's own Powertools Logger.

    Service name, appended keys and format are the Logger's.
    """
    powertools.append_keys(order_id="o-7")

    time_out(watch(grace_period=0.1)(blocks), 0.4)

    [record] = records(capfd.readouterr().out)
    assert (record["service"], record["order_id"], record["level"]) == ("payments", "o-7", "ERROR")
    assert record["location"].endswith("(block)")
    assert record["outcome"] == "raised"
    assert record["message"] == "watchdog.timeout"


def test_record_is_written_despite_held_logging_lock(
    capfd: pytest.CaptureFixture[str], powertools: Logger
) -> None:
    """A record is written even if the handler is stuck with a logging handler's lock held."""

    def handler(_event: object, _context: object) -> None:
        powertools.handlers[0].acquire()
        try:
            block()
        finally:
            powertools.handlers[0].release()

    time_out(watch(grace_period=0.1)(handler), 0.4)

    assert len(records(capfd.readouterr().out)) == 1


def test_failing_formatter_still_leaves_a_line(
    capfd: pytest.CaptureFixture[str], powertools: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the formatter fails a shorter line is written."""

    def broken(_record: object) -> str:
        raise RuntimeError("canary")

    monkeypatch.setattr(powertools.handlers[0].formatter, "format", broken)

    time_out(watch(grace_period=0.5)(blocks), 2.0)

    out = capfd.readouterr().out
    [record] = records(out)
    assert (record["outcome"], record["report_error"]) == ("raised", "RuntimeError")
    assert "canary" not in out


def test_indented_powertools_output_is_still_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With POWERTOOLS_DEV, which indents Powertools' output, the record is still one line."""
    monkeypatch.setenv("POWERTOOLS_DEV", "true")
    with pytest.warns(UserWarning, match="POWERTOOLS_DEV"):
        logger = Logger(service="pretty", level="INFO")
    try:
        time_out(watch(grace_period=0.1)(blocks), 0.4)
    finally:
        for handler in list(logger.handlers):
            logger._logger.removeHandler(handler)
        logging.Logger.manager.loggerDict.pop("pretty", None)

    assert len(records(capfd.readouterr().out)) == 1


def test_full_pipe_without_reader_is_given_up() -> None:
    """A full pipe without a reader is given up after a bounded wait, without blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(writer, True)

    assert not stdout._write_all(writer, b"line\n")
    os.close(reader)
    assert not stdout._write_all(writer, b"line\n"), "a closed pipe was written to"
    os.close(writer)


def test_line_break_in_name_stays_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """A line break in a function's name cannot forge a second line."""

    class Forged(Context):
        function_name = 'x"}\n{"event": "forged"}'

    with pytest.raises(LambdaTimeout):
        watch(grace_period=0.1)(blocks)({}, Forged(0.4))

    out = capfd.readouterr().out
    assert len(out.splitlines()) == 1
    assert records(out)[0]["function_name"] == Forged.function_name


def test_internal_failure_is_logged_with_its_innermost_place(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An internal failure is logged with the innermost place where it was raised.

    One that was not raised has no place.
    """

    def fails() -> None:
        raise KeyError("canary")

    try:
        fails()
    except KeyError as error:
        _report.write_failure(error)
    _report.write_failure(ValueError("canary"))

    raised, made = map(json.loads, capfd.readouterr().out.splitlines())
    line = fails.__code__.co_firstlineno + 1
    assert (raised["error"], raised["location"]) == ("KeyError", f"test_report.py:{line}")
    assert (made["error"], made["location"]) == ("ValueError", "")
    assert "canary" not in json.dumps([raised, made])
