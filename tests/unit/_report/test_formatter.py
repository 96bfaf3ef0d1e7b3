"""The user's Powertools formatter: how it is found, called, bounded, and what it must return."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from tests.support import BOUND, eventually
from watchdog_lambda._engine import stage
from watchdog_lambda._report import formatter as formatter_module
from watchdog_lambda._report.formatter import formatted, users_formatter
from watchdog_lambda._report.record import EVENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Logger

RECORD = {"event": EVENT, "outcome": "raised", "location": "app.py:1 (f)", "levelname": "mine"}


@pytest.fixture(autouse=True)
def nothing_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the calls that other tests have left hanging."""
    monkeypatch.setattr(formatter_module, "_hung", [])


def made_by(function: Callable[[Any], Any]) -> tuple[bytes | None, str]:
    return formatted(("payments", function), dict(RECORD), BOUND)


# ---- which one ---------------------------------------------------------------------------------


def test_powertools_formatter_is_found_among_other_loggers(
    powertools: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Powertools formatter is found with its logger's name; other handlers do not count."""
    plain = logging.getLogger("plain")
    other = logging.StreamHandler()
    monkeypatch.setattr(plain, "handlers", [other])
    own = powertools.handlers[0].formatter
    assert isinstance(own, LambdaPowertoolsFormatter)
    loggers = {"a": logging.PlaceHolder(plain), "plain": plain, "payments": powertools._logger}
    monkeypatch.setattr(logging.Logger.manager, "loggerDict", loggers)
    monkeypatch.setattr(powertools._logger, "handlers", [other, *powertools.handlers])

    assert users_formatter() == ("payments", own.format)

    monkeypatch.setattr(powertools._logger, "handlers", [other])
    assert users_formatter() is None


@pytest.mark.parametrize("missing", ["aws_lambda_powertools.logging.formatter", "logging"])
def test_no_formatter_without_powertools_or_logging(
    powertools: Logger, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """What the user's code has not loaded is not used."""
    assert users_formatter() is not None, powertools
    monkeypatch.delitem(sys.modules, missing)

    assert users_formatter() is None


def test_no_formatter_if_powertools_has_no_such_class(
    powertools: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Powertools whose module has no such class any more has no formatter for us."""
    monkeypatch.setitem(
        sys.modules,
        "aws_lambda_powertools.logging.formatter",
        SimpleNamespace(),
    )

    assert users_formatter() is None, powertools


# ---- what it gets and returns ------------------------------------------------------------------


def test_entry_is_an_error_of_the_users_logger_with_the_records_fields() -> None:
    """The formatter gets an entry of the user's logger that has the record's fields.

    The entry's own attributes win over fields of the same name.
    """
    entries: list[Any] = []

    def function(entry: logging.LogRecord) -> str:
        entries.append(entry)
        return json.dumps({"message": entry.getMessage(), "location": "wrong"})

    line, error = made_by(function)

    assert (json.loads(line or b""), error) == (
        {"message": EVENT, "location": "app.py:1 (f)"},
        "",
    )
    [entry] = entries
    assert (entry.name, entry.levelno, entry.levelname) == ("payments", logging.ERROR, "ERROR")
    assert (entry.pathname, entry.lineno, entry.args, entry.exc_info) == ("", 0, None, None)
    assert entry.outcome == "raised"


def test_line_keeps_its_letters_and_is_one_line() -> None:
    """An indented line becomes one line, and letters beyond ASCII stay as they are."""
    line, _ = made_by(lambda _entry: json.dumps({"event": EVENT, "o": "ö"}, indent=4))

    assert line is not None
    assert line.count(b"\n") == 1
    assert "ö".encode() in line


def test_serialiser_may_return_bytes() -> None:
    """A user's serialiser that returns JSON as bytes, such as orjson's, is no error."""
    line, _ = made_by(lambda _entry: json.dumps({"event": EVENT}).encode())

    assert json.loads(line or b"") == {"event": EVENT, "location": "app.py:1 (f)"}


@pytest.mark.parametrize("text", [f"no JSON: {EVENT}", f'["{EVENT}"]'])
def test_line_that_is_no_object_stays_as_it_is(text: str) -> None:
    assert made_by(lambda _entry: text) == (text.encode() + b"\n", "")


@pytest.mark.parametrize(
    ("answer", "error"), [(None, "TypeError"), (b"", "TypeError"), ("no event", "ValueError")]
)
def test_unusable_line_is_refused(answer: object, error: str) -> None:
    """Anything but a text that has the event's name is refused."""
    assert made_by(lambda _entry: answer) == (None, error)


# ---- its time ----------------------------------------------------------------------------------


def test_formatter_sees_the_callers_context_variables() -> None:
    """A Powertools Logger keeps its thread-local keys in context variables."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("keys", default="none")

    def function(_entry: object) -> str:
        seen = variable.get()
        variable.set("changed")
        return f"{EVENT} {seen}"

    reset = variable.set("own")
    try:
        assert made_by(function)[0] == f"{EVENT} own\n".encode()
        assert variable.get() == "own"
    finally:
        variable.reset(reset)


def test_formatter_works_without_context_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "_contextvars")

    assert made_by(lambda _entry: EVENT) == (EVENT.encode() + b"\n", "")


def test_hanging_formatter_is_not_called_again_before_its_end() -> None:
    """A formatter that hangs is abandoned, and not called again before it has ended."""
    release = threading.Event()
    calls: list[str] = []

    def hangs(_entry: object) -> str:
        calls.append("hangs")
        release.wait(BOUND)
        return EVENT

    try:
        assert formatted(("payments", hangs), dict(RECORD), 0.02) == (None, "TimeoutError")
        assert made_by(hangs) == (None, "TimeoutError")
        [abandoned] = formatter_module._hung
        assert not abandoned.has_ended()
    finally:
        release.set()
    assert calls == ["hangs"]
    eventually(abandoned.has_ended, "the formatter to end")

    assert made_by(lambda _entry: EVENT) == (EVENT.encode() + b"\n", "")
    assert formatter_module._hung == []


def test_only_one_formatter_runs_at_a_time() -> None:
    """Another thread's formatter is waited for, within the same time."""
    with formatter_module._turn:
        assert formatted(("payments", lambda _entry: EVENT), dict(RECORD), 0.01) == (
            None,
            "TimeoutError",
        )

    assert made_by(lambda _entry: EVENT)[0] is not None
    assert not formatter_module._turn.locked()


def test_formatter_is_not_used_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started the error is told, and the next call may use the formatter."""

    def no_more(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "start_new_thread", no_more)
        assert made_by(lambda _entry: EVENT) == (None, "RuntimeError")

    assert made_by(lambda _entry: EVENT)[0] is not None
