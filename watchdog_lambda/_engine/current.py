"""The invocations under way, and what user code asks about its own.

A thread keeps one object for its invocations, so that a call need not make one. That is right only
while nobody else holds it:

- Whoever takes one out of :data:`active` marks it as seen first, and then looks whether it is open.
- The thread first closes it, and then looks whether it has been seen. If so, the next call makes
  another one.

    handler's thread              any other
    is_open = False               is_seen = True
    read is_seen                  read is_open

Either the thread sees the mark and lets go of the object, or the other one sees it closed and does;
or it is open again by then, for the next invocation, and that keeps it for good. So what has been
seen open stays the same invocation. A call stores ``is_open`` last, so whoever sees it open sees
the rest. Pinned by tests/threads/test_kept_invocations.py.
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
"""Thread id -> the object of its invocations. Each thread writes its own entry.

For the hot path; everybody else goes through the functions below. An entry that is neither open nor
acted on stands for the next call, or is left over from one that was torn down (a signal handler of
the user raised there); it counts as none.
"""


def make(thread_id: int, plan: Plan) -> Invocation:
    """Make a thread the object that its calls use from now on. Thread: that one."""
    invocation = Invocation(plan, None, None, 0.0, 0.0, math.inf)
    invocation.is_open = False  # before anybody can see it
    active[thread_id] = invocation
    return invocation


def leave(thread_id: int, invocation: Invocation, kernel_timers: KernelTimers) -> None:
    """Let go of an object that has been seen, or is done with. Thread: the handler's."""
    kernel_timers.ends(invocation)
    active.pop(thread_id, None)


def invocation_of(thread_id: int) -> Invocation | None:
    """A thread's invocation, from its beginning until all is done about it. Thread: any."""
    invocation = active.get(thread_id)
    if invocation is None:
        return None
    invocation.is_seen = True  # then is_open; see above
    return invocation if invocation.is_open or invocation.firing is not None else None


def under_way() -> list[tuple[int, Invocation]]:
    """Every invocation, with its thread. Thread: any."""
    found = ((thread_id, invocation_of(thread_id)) for thread_id in list(active))
    return [(thread_id, invocation) for thread_id, invocation in found if invocation is not None]


def current() -> Invocation | None:
    """The invocation that this thread works for: its own, or else the only one under way."""
    invocation = invocation_of(get_ident())
    if invocation is None:
        others = under_way()
        if len(others) == 1:
            # A worker thread of the handler, or a hook.
            invocation = others[0][1]
    return invocation if invocation is not None and invocation.is_open else None


def remaining_time() -> float:
    """Seconds to the hard deadline of the invocation under way; ``math.inf`` outside of one.

    Negative once the deadline has passed (Managed Instances do not enforce it). In a thread that
    the handler started it is the process's invocation, as long as there is just one.

    Thread: any.
    """
    invocation = current()
    return math.inf if invocation is None else invocation.hard - SystemClock.monotonic()
