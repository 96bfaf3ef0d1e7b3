"""The record is one line within the bound, whatever the user's names, context and formatter are."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
from _thread import allocate_lock
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger

from tests.support import BOUND, Context, eventually
from watchdog_lambda import LambdaTimeout, _report, watch
from watchdog_lambda._cpython import stacks as _stacks
from watchdog_lambda._cpython.source import SourceMap, current_path
from watchdog_lambda._cpython.stacks import all_stacks
from watchdog_lambda._engine import stage as _stage
from watchdog_lambda._report import formatter as _formatter
from watchdog_lambda._report import record as _record
from watchdog_lambda._report import stdout as _output
from watchdog_lambda.testing import expire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENT = _record.EVENT
LONG = 30.0
"""Seconds. The last 3 are real, so that a formatter gets its share of time on a busy machine."""


@watch
def run_out_of_time(_event: object, _context: object) -> None:
    expire()


@pytest.fixture
def formatter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Any], Any]], None]]:
    """Replace the formatter of the user's own Powertools Logger."""
    logger = Logger(service="payments", level="INFO")

    def replace(function: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(logger.handlers[0].formatter, "format", function)

    yield replace
    for handler in list(logger.handlers):
        logger._logger.removeHandler(handler)
    logging.Logger.manager.loggerDict.pop("payments", None)


def time_out(capfd: pytest.CaptureFixture[str], context: Context | None = None) -> dict[str, Any]:
    """Return the record of one timeout, which must be one line within the bound."""
    with pytest.raises(LambdaTimeout):
        run_out_of_time({}, context or Context(LONG))
    out = capfd.readouterr().out
    [line] = out.splitlines()
    assert len(out.encode()) <= _record.MOST_BYTES
    record = json.loads(line)
    assert isinstance(record, dict)
    assert record["outcome"] == "raised"
    return record


def bad_value(_entry: object) -> str:
    raise KeyError("canary")


def bad_exit(_entry: object) -> str:
    sys.exit("canary")


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (bad_value, "KeyError"),
        (bad_exit, "SystemExit"),
        (lambda _entry: None, "TypeError"),
        (lambda _entry: b"watchdog.timeout", "TypeError"),
        (lambda _entry: "", "ValueError"),
        (lambda _entry: json.dumps({"own": "text"}), "ValueError"),
        (lambda entry: EVENT + str(entry.stack) + "x" * 100_000, "OverflowError"),
    ],
    ids=["raises", "exits", "None", "bytes", "empty", "drops the event", "endless"],
)
def test_failing_formatter_is_replaced_by_package_format(
    capfd: pytest.CaptureFixture[str],
    formatter: Callable[[Callable[[Any], Any]], None],
    function: Callable[[Any], Any],
    error: str,
) -> None:
    """If the formatter fails, the record is written in the package's format, with the reason."""
    formatter(function)

    record = time_out(capfd)

    assert record["report_error"] == error
    assert record["stack"]


def test_multiline_formatter_output_is_written_as_one_line(
    capfd: pytest.CaptureFixture[str], formatter: Callable[[Callable[[Any], Any]], None]
) -> None:
    """A formatter's output of several lines is written as one, with the line breaks escaped."""
    formatter(lambda entry: f"first {EVENT} {entry.outcome}\nsecond\r\nthird")

    with pytest.raises(LambdaTimeout):
        run_out_of_time({}, Context(LONG))

    assert capfd.readouterr().out == f"first {EVENT} raised\\nsecond\\r\\nthird\n"


def test_json_line_that_is_no_object_is_written_unchanged(
    capfd: pytest.CaptureFixture[str], formatter: Callable[[Callable[[Any], Any]], None]
) -> None:
    """A line that is JSON but no object is written unchanged. It has no place for a location."""
    formatter(lambda entry: json.dumps([EVENT, entry.outcome]))

    with pytest.raises(LambdaTimeout):
        run_out_of_time({}, Context(LONG))

    assert json.loads(capfd.readouterr().out) == [EVENT, "raised"]


def test_formatter_is_not_used_without_a_thread(
    capfd: pytest.CaptureFixture[str],
    formatter: Callable[[Callable[[Any], Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no thread can be started for the formatter it is not used.

    The next record may use it again.
    """
    formatter(lambda entry: json.dumps({"event": EVENT, "outcome": entry.outcome, "own": True}))

    def no_more(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_stage, "start_new_thread", no_more)
        assert time_out(capfd)["report_error"] == "RuntimeError"

    assert time_out(capfd)["own"]


def test_hanging_formatter_delays_neither_line_nor_answer(
    capfd: pytest.CaptureFixture[str], formatter: Callable[[Callable[[Any], Any]], None]
) -> None:
    """A formatter that hangs delays neither line nor answer beyond a bound.

    It is not called again before it has ended.
    """
    release, calls = threading.Event(), []

    def hang(_entry: object) -> str:
        calls.append(1)
        release.wait(BOUND)
        return json.dumps({"event": EVENT, "outcome": "raised", "own": True})

    formatter(hang)
    try:
        assert time_out(capfd)["report_error"] == "TimeoutError"
        assert time_out(capfd)["report_error"] == "TimeoutError"
        assert len(calls) == 1
    finally:
        release.set()
    eventually(lambda: _formatter._hung[0].has_ended(), "the formatter to end")
    assert time_out(capfd)["own"] is True


def test_formatter_thread_leaves_no_thread_object(
    capfd: pytest.CaptureFixture[str], formatter: Callable[[Callable[[Any], Any]], None]
) -> None:
    """The formatter's thread leaves no thread object behind.

    A thread that asks for its own object gets one from threading, which keeps it.
    """
    before = dict(threading._active)  # type: ignore[attr-defined]

    time_out(capfd)

    assert dict(threading._active) == before  # type: ignore[attr-defined]


def test_context_with_raising_attributes_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """A timeout is reported although the context's ``__str__`` and properties raise.

    They are the user's code.
    """

    class Raises:
        def __str__(self) -> str:
            raise ValueError("canary")

    class Bad(Context):
        aws_request_id = Raises()  # type: ignore[assignment]

        @property
        def function_version(self) -> str:  # type: ignore[override]
            raise ValueError("canary")

    record = time_out(capfd, Bad(LONG))

    assert (record["request_id"], record["function_version"]) == ("<Raises>", "")


def test_thread_with_raising_name_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """A timeout is reported although a thread's name, which a subclass may compute, raises."""

    class Nameless(threading.Thread):
        name = property(lambda _self: 1 / 0)

    release = threading.Event()
    started = threading.Event()

    def work() -> None:
        started.set()
        release.wait(BOUND)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(BOUND)
    thread.__class__ = Nameless
    try:
        record = time_out(capfd)
    finally:
        release.set()
        thread.__class__ = threading.Thread
        thread.join(BOUND)

    assert "thread" in record["threads"]


def test_non_json_value_is_written_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is no JSON is written as text, even if its conversion to text fails."""

    class Raises:
        def __str__(self) -> str:
            raise ValueError("canary")

    record = json.loads(_record.dumps({"odd": Raises(), "set": {1}}))

    assert record.pop("timestamp")
    assert record == {"level": "ERROR", "message": EVENT, "odd": "<Raises>", "set": "{1}"}


@pytest.mark.parametrize("letter", ["x", "\n", "\udcff", "\U0001f600"])
def test_record_is_cut_to_the_bound(letter: str) -> None:
    """A record is cut to the bound, and its essential fields are kept.

    It has a thousand threads, deep stacks, and endless names in any encoding.
    """
    place = letter * 5000 + ".py:1 (run)"
    record = {
        "event": EVENT,
        "outcome": "raised",
        "request_id": letter * 5000,
        "location": place,
        "stack": (place,) * 200,
        "threads": {f"{number}{letter * 500}": (place[-500:],) * 20 for number in range(1000)},
        "hooks": [{"name": letter * 5000, "outcome": "ok"}] * 1000,
        "interrupts": [{"exception": "Interrupt", "location": place}] * 20,
    }

    line = _record.fitted(record, lambda entry: _output.as_line(_record.dumps(entry)))

    assert len(line) <= _record.MOST_BYTES
    cut = json.loads(line)
    assert cut["shortened"] is True
    assert cut["location"].endswith(".py:1 (run)")


def test_record_is_cut_no_more_than_necessary() -> None:
    """A record is cut no more than necessary: the outermost frames of other threads go first."""
    record = {
        "event": EVENT,
        "stack": ("app.py:1 (handler)",) * 200,
        "threads": {f"t{n}": [f"lib.py:{i} ({'f' * 90})" for i in range(20)] for n in range(31)},
        "hooks": [],
        "interrupts": [],
    }

    line = _record.fitted(record, lambda entry: _output.as_line(_record.dumps(entry)))

    cut = json.loads(line)
    assert len(cut["stack"]) == 100
    assert len(cut["threads"]) == 30
    assert cut["threads"]["t0"][-1].startswith("lib.py:19 ")


def test_prepared_line_is_written_without_memory(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for even the short line a prepared one is written."""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(_report, "dumps", fail)

    with pytest.raises(LambdaTimeout):
        run_out_of_time({}, Context(LONG))

    record = json.loads(capfd.readouterr().out)
    assert (record["event"], record["report_error"]) == (EVENT, "MemoryError")


def test_many_threads_do_not_hide_the_handler_stack() -> None:
    """More than a hundred threads do not hide the handler's stack.

    The dump of faulthandler has a hundred, the newest first, and the main thread is the oldest.
    """
    release = threading.Event()
    threads = [threading.Thread(target=release.wait, args=(BOUND,)) for _ in range(120)]
    stacks: list[dict[int, Any]] = []
    wanted = threading.get_ident()
    for thread in threads:
        thread.start()
    try:
        looker = threading.Thread(target=lambda: stacks.append(all_stacks(wanted)))
        looker.start()
        looker.join(BOUND)
    finally:
        release.set()
        for thread in threads:
            thread.join(BOUND)

    functions = [function for _, _, function in stacks[0][wanted]]
    assert "test_many_threads_do_not_hide_the_handler_stack" in functions


@pytest.fixture
def no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no new file be opened, with the preloaded ones in place."""
    _stacks.preload()

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(_stacks, "_calls", os)


@pytest.mark.usefixtures("no_descriptors")
def test_spare_file_is_used_without_descriptors() -> None:
    """Without a free descriptor the spare file is used, repeatedly.

    All threads are in the record.
    """
    release = threading.Event()
    other = threading.Thread(target=release.wait, args=(BOUND,))
    other.start()
    try:
        for _ in range(2):
            stacks = all_stacks(threading.get_ident())
            assert other.ident in stacks
            assert "_dump" in [function for _, _, function in stacks[threading.get_ident()]]
    finally:
        release.set()
        other.join(BOUND)


@pytest.mark.usefixtures("no_descriptors")
def test_reused_spare_file_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spare file whose descriptor user code has closed and reused is not written to."""
    spare = _stacks.ReserveFile.__new__(_stacks.ReserveFile)
    file = tmp_path / "data.csv"
    with file.open("w") as data:
        spare._descriptor = data.fileno()
        spare._identity = (os.getpid(), 0, 0)
        spare._lock = allocate_lock()
        monkeypatch.setattr(_stacks, "_reserves", [spare])

        stacks = all_stacks(threading.get_ident())

    assert file.read_text() == ""
    # Only the handler's stack is taken, frame by frame.
    assert list(stacks) == [threading.get_ident()]
    assert "stack_of" in [function for _, _, function in stacks[threading.get_ident()]]


def test_path_object_in_sys_path_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path object in sys.path, where users put them, is ignored.

    It used to end the watchdog thread.
    """
    monkeypatch.setattr(sys, "path", [Path("/task"), "/task", *sys.path])

    assert SourceMap(current_path()).name("/task/app.py") == "app.py"
