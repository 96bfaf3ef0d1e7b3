"""The one line that a timeout leaves in the log, written whatever state the process is in.

No logging call: the handler may hang with a logging handler's lock held. No ``sys.stdout``: a hook
may have replaced it. The line goes to file descriptor 1 in pieces that a pipe takes without
blocking, and what nobody reads is given up after a bounded wait. The event never appears in it, nor
does any exception's message but our own: they may quote the event.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._firing import Firing
    from ._places import CodeMap
    from ._stacks import Stack

EVENT = "watchdog.timeout"

MOST_THREADS = 30
MOST_THREAD_FRAMES = 20

listeners: list[Callable[[dict[str, Any]], None]] = []
"""Given each record too, whoever writes it: for tests. They raise nothing."""

_ATOMIC = select.PIPE_BUF  # a pipe that is ready takes this much without blocking
_LONGEST_WAIT = 0.1  # seconds for a reader that does not read


def other_stacks(code: CodeMap, stacks: dict[int, Stack]) -> dict[str, tuple[str, ...]]:
    """What the other threads are at, by name; this package's own threads left out.

    Thread: any.
    """
    # Not threading.enumerate(): it takes a lock that user code can hold.
    named: dict[int, Any] = getattr(sys.modules.get("threading"), "_active", {})
    others: dict[str, tuple[str, ...]] = {}
    for ident, stack in stacks.items():
        places = code.places(stack)[-MOST_THREAD_FRAMES:]
        if not places or ident == get_ident():
            continue
        if len(others) == MOST_THREADS:
            others["..."] = (f"{len(stacks) - MOST_THREADS} threads left out",)
            break
        name = getattr(named.get(ident), "name", "thread")
        others[name if name not in others else f"{name} ({ident})"] = places
    return others


def build(
    firing: Firing, outcome: str, now: float, last_resort: str | None = None
) -> dict[str, Any]:
    """The record: what a timeout was, and how it ended."""
    details, timeline, ladder = firing.details, firing.timeline, firing.ladder
    context = firing.invocation.context
    record: dict[str, Any] = {
        "event": EVENT,
        "outcome": outcome,
        "request_id": details.request_id if details else "",
        "function_name": details.function_name if details else "",
        "function_version": str(getattr(context, "function_version", None) or ""),
        "elapsed_ms": round((now - timeline.start) * 1000),
        "remaining_ms": round((timeline.hard - now) * 1000),
        "grace_period_ms": round(timeline.grace_period * 1000),
        "location": details.location if details else "",
        "stack": details.stack if details else (),
        "threads": firing.other_stacks,
        "hooks": [hook.as_dict() for run in firing.runs for hook in run.records],
        "interrupts": [
            {
                "exception": interrupt.name,
                "outcome": ladder.outcome(interrupt),
                "after_ms": round((interrupt.at - timeline.start) * 1000),
                "landed_after_ms": None
                if interrupt.landed_at is None
                else round((interrupt.landed_at - timeline.start) * 1000),
                "location": interrupt.place,
            }
            for interrupt in ladder.records
        ],
    }
    if ladder.left_out:
        record["interrupts_left_out"] = ladder.left_out
    obstacle = firing.obstacle(outcome)
    if obstacle:
        record["obstacle"] = obstacle
    if last_resort:
        record["last_resort"] = last_resort
    return record


def write(firing: Firing, outcome: str, now: float, last_resort: str | None = None) -> None:
    """Write the line. Never raises, never waits long.

    Thread: the handler's at its end, or the watchdog's for a handler that is stuck.
    """
    try:
        record = build(firing, outcome, now, last_resort)
        for listen in listeners:
            listen(record)
        line = _powertools_line(record) if outcome != "stuck" else None
        if line is None:
            line = json.dumps(
                {"level": "ERROR", "message": EVENT, "timestamp": timestamp(), **record},
                default=str,
            )
    except Exception as error:  # noqa: BLE001 - a line that says less beats none
        line = json.dumps(
            {"level": "ERROR", "message": EVENT, "event": EVENT, "outcome": outcome}
            | {"report_error": type(error).__name__}
        )
    write_line(line)


def write_failure(error: BaseException) -> None:
    """Say that the watchdog itself has failed on an invocation: a defect, and never in silence."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = ""
    if traceback is not None:
        file = traceback.tb_frame.f_code.co_filename.rpartition("/")[2]
        place = f"{file}:{traceback.tb_lineno}"
    write_line(
        json.dumps(
            {"level": "ERROR", "message": "watchdog.failure", "timestamp": timestamp()}
            | {"event": "watchdog.failure", "error": type(error).__name__, "location": place}
        )
    )


def write_line(line: str) -> bool:
    """Write one line to file descriptor 1, or to 2 if that is gone; False if nobody took it."""
    data = line.replace("\n", "\\n").encode("utf-8", "backslashreplace") + b"\n"
    return any(_write_all(descriptor, data) for descriptor in (1, 2))


def _write_all(descriptor: int, data: bytes) -> bool:
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        view = memoryview(data)
        while view:
            ready = poll.poll(_LONGEST_WAIT * 1000)
            if not ready or not ready[0][1] & select.POLLOUT:
                return False
            view = view[os.write(descriptor, view[:_ATOMIC]) :]
    except OSError:
        return False
    return True


def timestamp() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _with_location(line: str, record: dict[str, Any]) -> str:
    """The formatted line with our location: Powertools' own is that of a logging call.

    On one line, too: POWERTOOLS_DEV indents.
    """
    try:
        formatted = json.loads(line)
    except ValueError:
        return line  # a serialiser of the user's that makes no JSON
    if isinstance(formatted, dict):
        formatted["location"] = record["location"]
    return json.dumps(formatted, ensure_ascii=False)


def _powertools_line(record: dict[str, Any]) -> str | None:
    """The record in the format of the user's own Powertools Logger, if there is one.

    Its formatter alone, without its handler: formatting takes no lock. Only on the handler's
    thread: a formatter is the user's code.
    """
    formatters = sys.modules.get("aws_lambda_powertools.logging.formatter")
    logging = sys.modules.get("logging")
    if formatters is None or logging is None:
        return None
    kind = getattr(formatters, "LambdaPowertoolsFormatter", ())
    for logger in list(logging.Logger.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler.formatter, kind):
                entry = logging.LogRecord(logger.name, logging.ERROR, "", 0, EVENT, None, None)
                entry.__dict__.update({k: v for k, v in record.items() if k not in entry.__dict__})
                line = handler.formatter.format(entry)
                return _with_location(line, record) if isinstance(line, str) else None
    return None
