"""Kills the processes that this one has started, and their descendants."""

from __future__ import annotations

import os

from watchdog_lambda._cpython.children import descendants, kill
from watchdog_lambda._engine.clock import SystemClock

_REAPED_WITHIN = 0.02
"""Seconds to wait for killed children, so that none stays behind as a zombie."""


def end_children(since: float) -> list[int]:
    """Kill the processes that this one has started after `since`, and their descendants.

    Returns their pids. `since` is in seconds since the machine's start. Older children were started
    by a program that ran in this process before, such as an image's start script, and would not be
    started again. Processes that have moved to another parent are not found.
    """
    found = descendants(os.getpid(), since)
    for pid in found:
        kill(pid)
    until = SystemClock.monotonic() + _REAPED_WITHIN
    for pid in found:
        while _is_running(pid) and SystemClock.monotonic() < until:
            SystemClock.pause(0.001)
    return found


def _is_running(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except OSError:
        return False  # other code has waited for it, or it is a child's child
