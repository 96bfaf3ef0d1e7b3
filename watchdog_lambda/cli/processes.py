"""Ends every process that an invocation has started, directly or indirectly."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "_WATCHDOG_LAMBDA_INVOKE"
"""The environment variable that marks every process started here; each run has its own value.

A handler's child may start its own session and outlive its parent. Then neither its parent nor its
session identifies it, but its inherited environment does.
"""

_ATTEMPTS = 200
_PAUSE = 0.01


def end_all(mark: str) -> None:
    """Kill every process that has the mark, and those that they start in the meantime.

    Returns once all of them have ended. A process whose environment lacks the mark is not found.
    """
    killed: set[int] = set()
    quiet = 0
    for _ in range(_ATTEMPTS):
        found = set(marked(mark))
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        # Look twice: a process has no readable environment during exec, nor while it is exiting.
        quiet = 0 if found or any(map(_is_running, killed)) else quiet + 1
        if quiet == 2:
            return
        time.sleep(_PAUSE)


def _is_running(pid: int) -> bool:
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def marked(mark: str) -> Iterator[int]:
    """Yield the processes with this mark that have not ended."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        # The process is gone or belongs to another user. A zombie's environment reads as empty.
        with contextlib.suppress(OSError):
            if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def send_group(group: int, number: signal.Signals) -> None:
    """Signal a process group. Does nothing if the group has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
