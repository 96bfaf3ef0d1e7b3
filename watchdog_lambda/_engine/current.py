"""The current invocations, and user code's questions about its own.

A thread reuses one object for its invocations, so that a call need not create one. That is safe
only while no other thread holds the object:

- Code that takes an object out of :data:`active` first marks it as seen, and then reads whether it
  is open.
- The object's thread first closes it, and then reads whether it has been seen. If so, the next call
  creates a new one.

    handler's thread              any other
    is_open = False               is_seen = True
    read is_seen                  read is_open

Either the thread sees the mark and drops the object, or the other one sees that it is closed and
drops it. Or the object is already open again, for the next invocation, which then keeps it. So an
object that has been seen open always stays the same invocation. A call stores ``is_open`` last, so
code that sees it open also sees the rest. Pinned by tests/threads/test_kept_invocations.py.
"""

from __future__ import annotations

import math
from _thread import get_ident

from .clock import SystemClock
from .invocation import Invocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchdog_lambda._plan import Plan

    from .kernel_timers import KernelTimers

__all__ = ["remaining_time"]

active: dict[int, Invocation] = {}
"""Thread id -> the object for its invocations. Each thread writes only its own entry.

Only the hot path uses it directly; all other code uses the functions below. An entry that is
neither open nor acted on is for the next call, or is left over from an aborted one (a user's signal
handler has raised there), and does not count.
"""


def make(thread_id: int, plan: Plan) -> Invocation:
    """Create the object that a thread's calls use from now on. Thread: that one."""
    invocation = Invocation(plan, None, None, 0.0, 0.0, math.inf)
    invocation.is_open = False  # before another thread can see it
    active[thread_id] = invocation
    return invocation


def leave(thread_id: int, invocation: Invocation, kernel_timers: KernelTimers) -> None:
    """Drop an object that has been seen, or is no longer needed. Thread: the handler's."""
    kernel_timers.ends(invocation)
    active.pop(thread_id, None)


def invocation_of(thread_id: int) -> Invocation | None:
    """Return a thread's invocation, until everything about it has been done. Thread: any."""
    invocation = active.get(thread_id)
    if invocation is None:
        return None
    invocation.is_seen = True  # before reading is_open; see above
    return invocation if invocation.is_open or invocation.firing is not None else None


def under_way() -> list[tuple[int, Invocation]]:
    """Return every current invocation, with its thread. Thread: any."""
    found = ((thread_id, invocation_of(thread_id)) for thread_id in list(active))
    return [(thread_id, invocation) for thread_id, invocation in found if invocation is not None]


def current() -> Invocation | None:
    """Return the invocation that this thread works for: its own, or else the only current one."""
    invocation = invocation_of(get_ident())
    if invocation is None:
        others = under_way()
        if len(others) == 1:
            # This is a worker thread of the handler, or a hook.
            invocation = others[0][1]
    return invocation if invocation is not None and invocation.is_open else None


def remaining_time() -> float:
    """Return the seconds to the current invocation's hard deadline; ``math.inf`` outside one.

    The result is negative once the deadline has passed (Managed Instances do not enforce it). A
    thread that the handler has started belongs to the process's invocation, if there is only one.

    Thread: any.
    """
    invocation = current()
    return math.inf if invocation is None else invocation.hard - SystemClock.monotonic()
