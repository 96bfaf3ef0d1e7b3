"""Formats a record with the user's own Powertools Logger, within a limited time.

A formatter is the user's code. It may raise, hang, or wait for something that a stuck handler
holds. The record is written all the same, in our own format.
"""

from __future__ import annotations

import json
import sys
from _thread import allocate_lock

from watchdog_lambda._engine.stage import BoundedCall, call_bounded

from . import stdout
from .record import EVENT, fitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Formatter = tuple[str, Callable[[Any], Any]]
    """A logger's name, and the function that formats its entries."""

LONGEST_FORMAT = 0.2
"""Seconds for the user's own formatter; never more than a quarter of the time left."""


def users_formatter() -> Formatter | None:
    """Return the formatter of the user's Powertools Logger, with its logger's name, if any."""
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
    """Return the record in the user's own format, or why that failed.

    Only the formatter is used, not its handler, because formatting takes none of logging's locks.
    It is still the user's code and can hang, so it runs on its own thread, for a short time.
    """
    import logging  # noqa: PLC0415 - the user's Logger has loaded it

    name, format_entry = formatter
    # Create it in this thread: it looks up the current thread, and registers an unknown one.
    blank = logging.LogRecord(name, logging.ERROR, "", 0, EVENT, None, None)

    def make(record: dict[str, Any]) -> bytes:
        entry = logging.LogRecord.__new__(logging.LogRecord)
        entry.__dict__.update({**record, **blank.__dict__})
        line = stdout.as_line(_with_location(format_entry(entry), record))
        if EVENT.encode() not in line:
            raise ValueError  # a search for the event would not find it
        return line

    return _in_time(lambda: fitted(record, make), seconds)


def _with_location(line: str, record: dict[str, Any]) -> str:
    """Set our location in the formatted line: Powertools' own is that of a logging call.

    This also puts it on one line: POWERTOOLS_DEV indents.
    """
    try:
        formatted = json.loads(line)
    except ValueError:
        return line  # the user's serialiser does not make JSON
    if isinstance(formatted, dict):
        formatted["location"] = record["location"]
    return json.dumps(formatted, ensure_ascii=False)


_turn = allocate_lock()
"""Held while waiting for a formatter: only one call at a time."""

_hung: list[BoundedCall] = []
"""A call that was abandoned, until it ends after all."""


def _in_time(make: Callable[[], bytes], seconds: float) -> tuple[bytes | None, str]:
    """Return what user code makes in time, or the name of the error.

    Code that hangs is not called again: Python cannot end a thread, and losing one is enough.
    """
    if not _turn.acquire(True, seconds):
        return None, "TimeoutError"
    try:
        if _hung and not _hung[0].has_ended():
            return None, "TimeoutError"
        _hung.clear()
        # A Powertools Logger keeps its thread-local keys in context variables. There are none if
        # the module has not been loaded.
        contextvars = sys.modules.get("_contextvars")
        within = None if contextvars is None else contextvars.copy_context().run
        call = call_bounded(make, seconds, within=within)
        if not call.has_ended():
            _hung.append(call)
            return None, "TimeoutError"
    except RuntimeError as error:  # no thread can be started
        return None, type(error).__name__
    finally:
        _turn.release()
    return (call.result, "") if call.has_returned else (None, call.error)
