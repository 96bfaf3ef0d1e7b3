"""Writes the one line that a timeout leaves in the log, in any state of the process.

It does not use logging, because the handler may hang while it holds a logging handler's lock.
Whatever fails while the line is made, a line is written, with less information at worst.
"""

from __future__ import annotations

import json

from watchdog_lambda._cpython.source import innermost

from . import metrics, stdout
from .formatter import LONGEST_FORMAT, formatted, users_formatter
from .record import EVENT, build, dumps, fitted, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from watchdog_lambda._engine.invocation import Firing

listeners: list[Callable[[dict[str, Any]], None]] = []
"""Functions that are called with each record, for tests. They must not raise."""

_SAYS_LEAST = (
    b'{"level": "ERROR", "message": "watchdog.timeout", "event": "watchdog.timeout", '
    b'"report_error": "MemoryError"}\n'
)
_FAILED = b'{"level": "ERROR", "message": "watchdog.failure", "event": "watchdog.failure"}\n'


def preload() -> None:
    """Import everything that must not be imported while the watchdog fires. Thread: any."""
    stdout.preload()


def write(firing: Firing, outcome: str, last_resort: str | None = None) -> None:
    """Write the record of one timeout, and its metric. Never raises, never waits long.

    Thread: the handler's at its end, or the watchdog's for a stuck handler.
    """
    line = _SAYS_LEAST
    now = firing.elapsed()
    try:
        record = build(firing, outcome, now, last_resort)
        for listen in listeners:
            listen(record)
        line = _line(record, firing, outcome, now)
    except Exception as error:  # noqa: BLE001 - a short line is better than none
        try:
            line = stdout.as_line(
                dumps({"event": EVENT, "outcome": outcome, "report_error": type(error).__name__})
            )
        except Exception:  # noqa: BLE001, S110 - there is not even memory for that
            pass
    stdout.write(line)
    metrics.write(firing, outcome, now)


def write_failure(error: BaseException) -> None:
    """Log that the watchdog itself has failed on an invocation, which is a defect."""
    traceback = innermost(error)
    place = ""
    if traceback is not None:
        file = traceback.tb_frame.f_code.co_filename.rpartition("/")[2]
        place = f"{file}:{traceback.tb_lineno}"
    try:
        write_line(
            json.dumps(
                {"level": "ERROR", "message": "watchdog.failure", "timestamp": timestamp()}
                | {"event": "watchdog.failure", "error": type(error).__name__, "location": place}
            )
        )
    except MemoryError:
        stdout.write(_FAILED)


def write_line(line: str) -> bool:
    """Write one line of text to standard output; False if it was not accepted. Thread: any."""
    return stdout.write(stdout.as_line(line))


def _line(record: dict[str, Any], firing: Firing, outcome: str, now: float) -> bytes:
    # A formatter is the user's code, and may be waiting for the stuck handler.
    formatter = users_formatter() if outcome != "stuck" else None
    if formatter is not None:
        time_left = firing.timeline.limit - now
        seconds = min(LONGEST_FORMAT, max(0.0, time_left / 4))
        line, error = formatted(formatter, record, seconds)
        if line is not None:
            return line
        record["report_error"] = error
    return fitted(record, lambda entry: stdout.as_line(dumps(entry)))
