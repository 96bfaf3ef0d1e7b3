"""The messages and records about a process that has ended, or was killed, during an invocation.

The caller gets an error in awslambdaric's format for exceptions; the log gets one line.
"""

from __future__ import annotations

import json

from watchdog_lambda._report.record import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from typing import Any, Final

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack

    from .runtime_process import Ended
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

EVENT: Final = "watchdog.crash"
TYPE: Final = "RuntimeCrash"
INIT_TYPE: Final = "Runtime.ExitError"
"""The platform's own error type for a runtime that has exited."""


class Place:
    """The place of a thread, as far as it is known."""

    __slots__ = ("location", "stack")

    def __init__(self, stack: Stack, code: SourceMap) -> None:
        self.location = code.location(stack)
        self.stack = code.places(stack)


def how(exit_code: int) -> str:
    """Return ``killed by SIGSEGV`` or ``exited with status 7``."""
    if exit_code >= 0:
        return f"exited with status {exit_code}"
    return f"killed by {_name(-exit_code)}"


def _name(number: int) -> str:
    for name in sorted(dir(signal)):  # SIGABRT before SIGIOT, and SIGHUP before SIG_UNBLOCK
        if name[:3] == "SIG" and getattr(signal, name) == number:
            return name
    return f"signal {number}"


def memory_in_words(peak_mb: int, limit_mb: int | None) -> str:
    """Return ``memory peaked at 128 of 128 MB``."""
    of = "" if limit_mb is None else f" of {limit_mb}"
    return f"memory peaked at {peak_mb}{of} MB"


def message(
    ended: Ended, seconds: float | None, place: Place, peak_mb: int, limit_mb: int | None
) -> str:
    """Describe the end of a process in one line, `seconds` after its invocation began."""
    words = how(ended.exit_code)
    words += " in its init" if seconds is None else f" after {max(seconds, 0.0):.1f} s"
    if place.location:
        words += f" in {place.location}"
    if ended.exit_code == -signal.SIGKILL:
        # As a rule, only a kernel that is short of memory kills like this.
        words += f", {memory_in_words(peak_mb, limit_mb)}"
    return words


def timeout_message(elapsed: float, remaining: float, location: str) -> str:
    """Describe in one line a handler that was given up on."""
    limit = elapsed + remaining
    return (
        f"gave up after {elapsed:.1f} s, {max(0.0, remaining):.1f} s before the "
        f"{limit:.1f} s limit, in {location or 'unknown'}"
    )


def error_body(kind: str, text: str, request_id: str, stack: Iterable[str]) -> bytes:
    """Make the body that awslambdaric sends for an exception that leaves the handler."""
    error = {
        "errorType": kind,
        "errorMessage": text,
        "requestId": request_id,
        "stackTrace": [f"  {place}\n" for place in stack],
    }
    return json.dumps(error).encode()


def record(
    ended: Ended, place: Place, memory: tuple[int, int | None], outcome: str
) -> dict[str, Any]:
    """Make the record of a crash, without the keys about the function and its invocation."""
    code = ended.exit_code
    return {
        "level": "ERROR",
        "message": EVENT,
        "timestamp": timestamp(),
        "event": EVENT,
        "outcome": outcome,
        "signal": _name(-code) if code < 0 else None,
        "exit_status": code if code >= 0 else None,
        "location": place.location,
        "stack": place.stack,
        "memory_peak_mb": memory[0],
        "memory_limit_mb": memory[1],
    }
