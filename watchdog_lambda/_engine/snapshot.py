"""Takes a snapshot of all stacks when the watchdog acts, for the hooks and the record.

It reads the user's objects: a context's attributes may raise, and so may a thread's name.
"""

from __future__ import annotations

import sys
from _thread import _count, get_ident

from watchdog_lambda._cpython.loops import with_awaited
from watchdog_lambda._cpython.stacks import all_stacks
from watchdog_lambda.details import TimeoutDetails

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack

    from .invocation import Firing

MOST_THREADS = 30
MOST_THREAD_FRAMES = 20


def look(firing: Firing, now: float) -> TimeoutDetails:
    """Describe the timeout now. Stores the other threads' stacks in `firing`. Thread: watchdog."""
    stacks = all_stacks(firing.thread_id)
    stack = stacks.pop(firing.thread_id, [])
    stack = with_awaited(stack, firing.thread_id, firing.code)
    firing.other_stacks = other_stacks(firing.code, stacks)
    context = firing.invocation.context
    return TimeoutDetails(
        request_id=attribute(context, "aws_request_id"),
        function_name=attribute(context, "function_name"),
        deadline=firing.invocation.hard,
        elapsed=now,
        grace_period=firing.timeline.grace_period,
        stack=firing.code.places(stack),
        location=firing.code.location(stack),
    )


def other_stacks(code: SourceMap, stacks: dict[int, Stack]) -> dict[str, tuple[str, ...]]:
    """Return the other threads' stacks, by name, without this package's own threads.

    Thread: any.
    """
    # Do not call threading.enumerate(), which takes a lock that user code can hold.
    named: dict[int, Any] = getattr(sys.modules.get("threading"), "_active", {})
    others: dict[str, tuple[str, ...]] = {}
    written: dict[int, tuple[str, ...]] = {}  # threads of a pool can share a stack
    for ident, stack in stacks.items():
        if id(stack) not in written:
            written[id(stack)] = code.places(stack)[-MOST_THREAD_FRAMES:]
        places = written[id(stack)]
        if not places or ident == get_ident():
            continue
        if len(others) == MOST_THREADS:
            # Do not count `stacks`, which has at most a hundred threads.
            others["..."] = (f"{_count() - MOST_THREADS} threads left out",)
            break
        name = attribute(named.get(ident), "name") or "thread"
        others[name if name not in others else f"{name} ({ident})"] = places
    return others


def attribute(holder: object, name: str) -> str:
    """Return an attribute of a user's object as text; empty if it has none. Thread: any."""
    try:
        value = getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - the user's property
        return ""
    return "" if value is None else text(value)


def text(value: object) -> str:
    """Return ``str`` of any object. Never raises. Thread: any."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the user's __str__
        return f"<{type(value).__name__}>"
