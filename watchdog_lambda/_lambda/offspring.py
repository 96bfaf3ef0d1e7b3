"""Ending the processes that this one has started, and theirs."""

from __future__ import annotations

import os

from watchdog_lambda._cpython.children import parent_and_start
from watchdog_lambda._engine.clock import SystemClock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

_REAPED_WITHIN = 0.02
"""Seconds for which ended children are waited for, so that none stays behind as a zombie."""


def end_children(since: float) -> list[int]:
    """Kill the processes that this one has started `since` then, and theirs; their pids.

    `since` is in seconds since the machine's start. What was there before that has been started by
    whoever ran before us in this process, such as an image's start script, and would not be started
    again. Those that have put themselves under another parent are not found.
    """
    from .kernel import processes_by_parent  # noqa: PLC0415 - for those who use it

    children = processes_by_parent()
    found: list[int] = []
    pending = [pid for pid in children.get(os.getpid(), ()) if parent_and_start(pid)[1] >= since]
    while pending:
        pid = pending.pop()
        found.append(pid)
        pending += children.get(pid, ())
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass  # it has ended by itself
    until = SystemClock.monotonic() + _REAPED_WITHIN
    for pid in found:
        while _is_running(pid) and SystemClock.monotonic() < until:
            SystemClock.pause(0.001)
    return found


def _is_running(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except OSError:
        return False  # somebody has waited for it, or it is no child of ours but a child's
