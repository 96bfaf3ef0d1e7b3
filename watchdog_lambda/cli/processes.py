"""Ending every process that an invocation has started, directly or not."""

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
"""The environment variable that everything started here has, with a value of its own each time.

A handler's child may lead a session of its own and outlive its parent: neither parents nor sessions
lead to it, what it has inherited does.
"""

_ATTEMPTS = 200
_PAUSE = 0.01


def end_all(mark: str) -> None:
    """Kill every process that has the mark, and those that they start meanwhile.

    Returns once they have ended. One that was started with an environment without the mark is not
    found.
    """
    killed: set[int] = set()
    quiet = 0
    for _ in range(_ATTEMPTS):
        found = set(marked(mark))
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        # Once more: a process that is just becoming another program has no environment to be read.
        # And one that is ending has none either, while it is still there.
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
    """The processes with this mark, but for those that have ended."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        # Gone meanwhile, or somebody else's. Of one that has ended nothing is to be read.
        with contextlib.suppress(OSError):
            if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def send_group(group: int, number: signal.Signals) -> None:
    """Signal a process group; nothing, if it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
