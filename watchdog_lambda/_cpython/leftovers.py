"""Finds threads and child processes of an invocation that are still working after its end.

Thread: any.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from . import syscalls
from .children import parent_and_start, processes_by_parent, stat_of
from .stacks import all_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .source import SourceMap


def threads_at_work(code: SourceMap, since: float) -> list[str]:
    """Return the names of threads that were started after `since` and run the user's code.

    `since` is in seconds since the machine's start. A pool's worker that waits for work has no user
    code on its stack.
    """
    # Do not call threading.enumerate(), which takes a lock that user code can hold. Do not read the
    # threads' properties either, which can be the user's code.
    named: dict[int, Any] = dict(getattr(sys.modules.get("threading"), "_active", {}))
    begun: dict[int, str] = {}
    for ident, thread in named.items():
        own = thread.__dict__
        if ident != get_ident() and _began(own.get("_native_id")) >= since:
            begun[ident] = str(own.get("_name"))
    if not begun:
        return []
    stacks = all_stacks(get_ident())
    return sorted(name for ident, name in begun.items() if code.has_own(stacks.get(ident, [])))


def children_at_work(since: float) -> list[str]:
    """Return pid and name of child processes that were started after `since` and have not ended."""
    found: list[str] = []
    for pid in processes_by_parent().get(os.getpid(), ()):
        has_ended = stat_of(pid)[:1] in ([], ["Z"])
        if not has_ended and parent_and_start(pid)[1] >= since:
            found.append(f"{pid} ({syscalls.read(f'/proc/{pid}/comm').strip()})")
    return found


def _began(native_id: int | None) -> float:
    fields = syscalls.read(f"/proc/self/task/{native_id}/stat").rpartition(")")[2].split()
    return (int(fields[19]) + 1) / os.sysconf("SC_CLK_TCK") if len(fields) >= 20 else 0.0
