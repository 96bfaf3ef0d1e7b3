"""Tests with names and messages that could break a line, forge one, or control a terminal."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context
from watchdog_lambda import ConfigurationError, LambdaTimeout, Watchdog, watch
from watchdog_lambda._config import Settings
from watchdog_lambda._cpython.source import SourceMap
from watchdog_lambda._report import stdout
from watchdog_lambda.testing import FakeContext, expire

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

# coverage cannot read a file that does not exist and whose name is not UTF-8.
pytestmark = pytest.mark.untraced

FORGED = '{"event": "watchdog.timeout", "forged": true}'
BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
"""All line ends that ``str.splitlines()`` recognises."""

ODD = [
    *(f"a{line_break}{FORGED}" for line_break in BREAKS),
    "\x1b[2J\x1b[31mred\x07",
    "\x9b31mred",  # the same in a terminal's eight-bit codes
    '","forged":"',
    "back\\slash\\n",
    "nul\0l",
    "\ud800 alone, \udcff of no UTF-8",
    "\u202egnirts \U0001f469\u200d\U0001f680 é",
]


def timed_out(text: str) -> LambdaTimeout:
    """Time out a handler that uses this text for every name it can choose."""
    source = "def handler(expire, context):\n    expire()\n"
    names: dict[str, Any] = {}
    exec(compile(source, text.replace("\0", "?") or "x", "exec"), names)  # noqa: S102
    handler = names["handler"]
    handler.__code__ = handler.__code__.replace(co_name=text, co_qualname=text)
    watchdog = Watchdog()

    def hook(_details: object) -> None:
        raise type(text.replace("\0", "?").encode("ascii", "replace").decode(), (Exception,), {})(
            text
        )

    hook.__qualname__ = hook.__module__ = text
    watchdog.shutdown_hook(hook)
    release = threading.Event()
    beside = threading.Thread(target=release.wait, args=(BOUND,), name=text)
    context = FakeContext(aws_request_id=text, function_name=text, function_version=text)
    beside.start()
    try:
        with pytest.raises(LambdaTimeout) as caught:
            watchdog.watch(handler)(expire, context)
    finally:
        release.set()
        beside.join()
    return caught.value


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_record_stays_one_line_of_json(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The record stays one line of JSON, with every name unchanged.

    File, function, thread, hook, error and request id have odd names.
    """
    timed_out(text)

    captured = capfd.readouterr().out
    [line] = captured.splitlines()
    record = json.loads(line)
    assert "forged" not in record
    assert record["request_id"] == record["function_name"] == record["function_version"] == text
    assert text in record["threads"]
    assert record["hooks"][0]["name"] == f"{text}.{text}"
    assert line.isascii()


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_user_format_stays_one_line(
    text: str, capfd: pytest.CaptureFixture[str], powertools: Logger
) -> None:
    """The record stays one line in the user's own format.

    Powertools keeps non-ASCII characters; characters that break lines are escaped.
    """
    del powertools
    timed_out(text)

    [line] = capfd.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["service"] == "payments"
    assert record["request_id"] == text


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_error_message_stays_one_line(text: str) -> None:
    """The error's message stays one line, because the runtime logs it unchanged.

    A generated function's name must not break it.
    """
    message = str(timed_out(text))

    assert message.isprintable(), ascii(message)
    assert message.startswith("interrupted after ")


def test_printable_names_are_kept() -> None:
    """Printable names in any script are kept."""
    code = SourceMap(["/task"])

    assert code.place("/task/größe.py", 7, "näher") == "größe.py:7 (näher)"
    assert code.place("/task/a\nb.py", 7, "<lambda>") == "a\\nb.py:7 (<lambda>)"


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_non_json_output_stays_one_line(text: str) -> None:
    """The output of a user's serialiser that is no JSON stays one line, too."""
    line = stdout.as_line(f"level=ERROR name={text}")

    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_setting_values_are_quoted(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A setting's value in an error, or its name in a warning, is quoted with escapes."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environ({"WATCHDOG_LAMBDA_INTERRUPT": text})
    Settings.from_environ({f"WATCHDOG_LAMBDA_{text}": "1"})

    assert len(str(caught.value).splitlines()) == 1
    assert "\x1b" not in str(caught.value)
    [warning] = caplog.messages
    assert warning.isprintable()


def test_user_error_is_passed_through(capfd: pytest.CaptureFixture[str]) -> None:
    """An error that the handler raises at a timeout goes to the caller unchanged.

    Its message is not in our line.
    """

    @watch(grace_period=0.05)
    def handler(_event: object, _context: object) -> None:
        try:
            threading.Event().wait(BOUND)
        except TimeoutError:
            raise ConnectionError(f"a\n{FORGED}") from None

    with pytest.raises(ConnectionError) as caught:
        handler({}, Context(0.3))

    assert str(caught.value) == f"a\n{FORGED}"
    [line] = capfd.readouterr().out.splitlines()
    assert "forged" not in line
