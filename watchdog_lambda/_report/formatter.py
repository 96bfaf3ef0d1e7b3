"""A record in the format of the user's own Powertools Logger, made within a bounded time.

A formatter is the user's code. It may raise, hang, or wait for what a stuck handler holds; the
record comes all the same, in a format of ours.
"""

from __future__ import annotations

import json
import sys
from _contextvars import copy_context  # without the module's Python part
from _thread import allocate_lock

from watchdog_lambda._engine.stage import BoundedCall, call_bounded

from . import stdout
from .record import EVENT, fitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Formatter = tuple[str, Callable[[Any], Any]]
    """A logger's name, and what makes a line of an entry of its."""

LONGEST_FORMAT = 0.2
"""Seconds for the user's own formatter; never more than a quarter of the time left."""


def users_formatter() -> Formatter | None:
    """The formatter of the user's own Powertools Logger, if there is one, and its logger's name."""
    formatters = sys.modules.get("aws_lambda_powertools.logging.formatter")
    logging = sys.modules.get("logging")
    if formatters is None or logging is None:
        return None
    kind = getattr(formatters, "LambdaPowertoolsFormatter", ())
    for logger in list(logging.Logger.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler.formatter, kind):
                return logger.name, handler.formatter.format
    return None


def formatted(
    formatter: Formatter, record: dict[str, Any], seconds: float
) -> tuple[bytes | None, str]:
    """The record in the user's own format, or why there is none.

    The formatter alone, without its handler: formatting takes no lock of logging's. It is the
    user's code all the same, and can hang, so it has a thread of its own and not much time.
    """
    import logging  # noqa: PLC0415 - the user's Logger has loaded it

    name, format_entry = formatter
    # In this thread, for it looks up the current one, and registers one that it does not know.
    blank = logging.LogRecord(name, logging.ERROR, "", 0, EVENT, None, None)

    def make(record: dict[str, Any]) -> bytes:
        entry = logging.LogRecord.__new__(logging.LogRecord)
        entry.__dict__.update({**record, **blank.__dict__})
        line = stdout.as_line(_with_location(format_entry(entry), record))
        if EVENT.encode() not in line:
            raise ValueError  # of no use to who searches for it
        return line

    return _in_time(lambda: fitted(record, make), seconds)


def _with_location(line: object, record: dict[str, Any]) -> str:
    """The formatted line with our location: Powertools' own is that of a logging call.

    On one line, too: POWERTOOLS_DEV indents.
    """
    if not isinstance(line, str):
        raise TypeError
    try:
        formatted = json.loads(line)
    except ValueError:
        return line  # the user's serialiser makes no JSON
    if isinstance(formatted, dict):
        formatted["location"] = record["location"]
    return json.dumps(formatted, ensure_ascii=False)


_turn = allocate_lock()
"""Held while a formatter is waited for: one call at a time."""

_hung: list[BoundedCall] = []
"""The call that was not waited for any longer, until it ends after all."""


def _in_time(make: Callable[[], bytes], seconds: float) -> tuple[bytes | None, str]:
    """What user code makes within a bound, or what went wrong, as the name of an error.

    Code that hangs is not called again: Python cannot end a thread, and one is enough to lose.
    """
    if not _turn.acquire(True, seconds):
        return None, "TimeoutError"
    try:
        if _hung and not _hung[0].has_ended():
            return None, "TimeoutError"
        _hung.clear()
        # Keys that a Powertools Logger keeps for one thread are context variables.
        call = call_bounded(make, seconds, within=copy_context().run)
        if not call.has_ended():
            _hung.append(call)
            return None, "TimeoutError"
    except RuntimeError as error:  # no thread to be had
        return None, type(error).__name__
    finally:
        _turn.release()
    return (call.result, "") if call.has_returned else (None, call.error)
