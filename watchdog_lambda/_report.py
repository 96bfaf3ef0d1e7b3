"""The one line that a timeout leaves in the log, written whatever state the process is in.

No logging call: the handler may hang with a logging handler's lock held. What the user has put into
the context, into names and into a formatter may raise, hang or be endless: the line comes all the
same, within a bound. The event never appears in it, nor does any exception's message but our own:
they may quote the event.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from _contextvars import copy_context  # without the module's Python part
from _thread import _count, allocate_lock, get_ident, start_new_thread

from . import _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Sequence
    from typing import Any

    from ._firing import Firing
    from ._places import CodeMap
    from ._stacks import Stack

    Formatter = tuple[str, Callable[[Any], Any]]
    """A logger's name, and what makes a line of an entry of its."""

EVENT = "watchdog.timeout"

MOST_THREADS = 30
MOST_THREAD_FRAMES = 20

listeners: list[Callable[[dict[str, Any]], None]] = []
"""Given each record too, whoever writes it: for tests. They raise nothing."""

MOST_BYTES = 15 * 4096
"""Of a line: what an ordinary pipe (16 pages) takes at once with one of its pages in use."""

LONGEST_FORMAT = 0.2
"""Seconds for the user's own formatter; never more than a quarter of the time left."""

_SAYS_LEAST = (
    b'{"level": "ERROR", "message": "watchdog.timeout", "event": "watchdog.timeout", '
    b'"report_error": "MemoryError"}\n'
)
_FAILED = b'{"level": "ERROR", "message": "watchdog.failure", "event": "watchdog.failure"}\n'


def text(value: object) -> str:
    """``str`` of what may be anything: it never raises. Thread: any."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the user's __str__
        return f"<{type(value).__name__}>"


def attribute(holder: object, name: str) -> str:
    """An attribute of an object of the user's as text; empty if it has none. Thread: any."""
    try:
        value = getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - the user's property
        return ""
    return "" if value is None else text(value)


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
            # Not by `stacks`: those are of a hundred threads at most.
            others["..."] = (f"{_count() - MOST_THREADS} threads left out",)
            break
        name = attribute(named.get(ident), "name") or "thread"
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
        "function_version": attribute(context, "function_version"),
        "elapsed_ms": round((now - timeline.start) * 1000),
        "remaining_ms": round((timeline.hard - now) * 1000),
        "grace_period_ms": round(timeline.grace_period * 1000),
        "location": details.location if details else "",
        "stack": details.stack if details else (),
        "threads": firing.other_stacks,
        "ended_after_ms": None
        if firing.ended_at is None
        else round((firing.ended_at - timeline.start) * 1000),
        "hooks": [hook.as_dict(timeline.start) for run in firing.runs for hook in run.records],
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
    line = _SAYS_LEAST
    try:
        record = build(firing, outcome, now, last_resort)
        for listen in listeners:
            listen(record)
        line = _line(record, firing, outcome, now)
    except Exception as error:  # noqa: BLE001 - a line that says less beats none
        try:
            line = _output.as_line(
                _dumps({"event": EVENT, "outcome": outcome, "report_error": type(error).__name__})
            )
        except Exception:  # noqa: BLE001, S110 - not even memory for that
            pass
    _output.write(line)


def write_failure(error: BaseException) -> None:
    """Say that the watchdog itself has failed on an invocation: a defect, and never in silence."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
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
        _output.write(_FAILED)


def write_line(line: str) -> bool:
    """Write one line of text to standard output; False if nobody took it. Thread: any."""
    return _output.write(_output.as_line(line))


def _line(record: dict[str, Any], firing: Firing, outcome: str, now: float) -> bytes:
    # A formatter is the user's code, and a stuck handler may be what it waits for.
    formatter = _users_formatter() if outcome != "stuck" else None
    if formatter is not None:
        time_left = firing.timeline.hard - now
        seconds = min(LONGEST_FORMAT, max(0.0, time_left / 4))
        line, error = _formatted(formatter, record, seconds)
        if line is not None:
            return line
        record["report_error"] = error
    return _fitted(record, lambda entry: _output.as_line(_dumps(entry)))


def _dumps(record: dict[str, Any]) -> str:
    return json.dumps(
        {"level": "ERROR", "message": EVENT, "timestamp": timestamp(), **record}, default=text
    )


def _fitted(record: dict[str, Any], make: Callable[[dict[str, Any]], bytes]) -> bytes:
    """The first line within the bound that `make` makes of the record, or of less of it."""
    line = make(record)
    for sizes in _CUTS:
        if len(line) <= MOST_BYTES:
            break
        line = make(_cut(record, sizes))
    if len(line) > MOST_BYTES:
        raise OverflowError  # a formatter that adds more than there is room for
    return line


# Other threads, frames of each, the handler's frames, entries of a list, characters of a text.
_CUTS = ((30, 5, 100, 20, 200), (10, 5, 40, 10, 150), (0, 0, 20, 4, 100), (0, 0, 0, 0, 80))


def _cut(record: dict[str, Any], sizes: tuple[int, int, int, int, int]) -> dict[str, Any]:
    """Less of the record: the innermost frames, the first and last entries, no long names."""
    threads, frames, stack, entries, most = sizes

    def shorter(value: Any) -> Any:
        kind = value.__class__  # not narrowed: strict checkers want the items named
        if kind is str and len(value) > most:
            # A name's beginning, and a place's end.
            return f"{value[: most // 3]}...{value[-(most - most // 3) :]}"
        if kind is dict:
            return {shorter(key): shorter(entry) for key, entry in value.items()}
        if kind in {list, tuple}:
            return [shorter(entry) for entry in value]
        return value

    def some(values: list[Any]) -> list[Any]:
        left_out = len(values) - entries
        return (
            values
            if left_out <= 0
            else values[: entries - entries // 2] + (values[len(values) - entries // 2 :])
        )

    less = {
        **record,
        "stack": _innermost(record["stack"], stack),
        "threads": {
            name: _innermost(places, frames)
            for name, places in itertools.islice(record["threads"].items(), threads)
        },
        "hooks": some(record["hooks"]),
        "interrupts": some(record["interrupts"]),
        "shortened": True,
    }
    return {key: shorter(value) for key, value in less.items()}


def _innermost(places: Sequence[str], most: int) -> Sequence[str]:
    return places[len(places) - most :] if len(places) > most else places


def timestamp() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _with_location(line: object, record: dict[str, Any]) -> str:
    """The formatted line with our location: Powertools' own is that of a logging call.

    On one line, too: POWERTOOLS_DEV indents.
    """
    if not isinstance(line, str):
        raise TypeError
    try:
        formatted = json.loads(line)
    except ValueError:
        return line  # a serialiser of the user's that makes no JSON
    if isinstance(formatted, dict):
        formatted["location"] = record["location"]
    return json.dumps(formatted, ensure_ascii=False)


def _users_formatter() -> Formatter | None:
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


def _formatted(
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
        line = _output.as_line(_with_location(format_entry(entry), record))
        if EVENT.encode() not in line:
            raise ValueError  # of no use to who searches for it
        return line

    return _in_time(lambda: _fitted(record, make), seconds)


_under_way = allocate_lock()
"""Taken while a formatter runs."""

_given_up: list[LockType] = []
"""Released when the formatter that was not waited for any more has ended after all."""


def _in_time(make: Callable[[], bytes], seconds: float) -> tuple[bytes | None, str]:
    """What user code makes on a thread of its own, or what went wrong, as the name of an error.

    Code that hangs is not asked again: Python cannot end a thread, and one is enough to lose.
    """
    if (_given_up and _given_up[0].locked()) or not _under_way.acquire(True, seconds):
        return None, "TimeoutError"
    _given_up.clear()
    done = allocate_lock()
    done.acquire()
    lines: list[bytes] = []
    errors: list[str] = []

    def run() -> None:
        try:
            lines.append(make())
        except BaseException as error:  # noqa: BLE001 - recorded; SystemExit too
            errors.append(type(error).__name__)
        finally:
            _under_way.release()
            done.release()

    try:
        # Keys that a Powertools Logger keeps for one thread are context variables.
        start_new_thread(copy_context().run, (run,))
    except RuntimeError as error:  # no thread to be had
        _under_way.release()
        return None, type(error).__name__
    if not done.acquire(True, seconds):
        _given_up.append(done)
        return None, "TimeoutError"
    return (lines[0], "") if lines else (None, errors[0])
