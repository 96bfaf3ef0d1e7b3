"""One invocation, and which of them are under way. No thread, no lock, no signal in here.

An invocation is made, published in :data:`active` and closed by the thread that runs the handler.
The watchdog thread only reads it, and sets :attr:`Invocation.firing` once. Two stores and two reads
decide who is first, without a lock on the handler's path:

    handler's thread              watchdog thread
    is_open = False               firing = Firing(...)
    read firing                   read is_open

Whichever order they come in, at least one of the two sees what the other has stored: either the
watchdog sees a closed invocation and does nothing, or the handler's thread sees the firing and
settles it under its lock. Swapping the lines on either side breaks that; pinned by
``tests/threads/test_settle_gates.py``.
"""

from __future__ import annotations

import math
from _thread import get_ident

from .clock import SystemClock, Timeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchdog_lambda._plan import Plan

    from .firing import Firing

__all__ = ["remaining_time"]


class Invocation:
    """One call of a watched handler."""

    __slots__ = ("context", "due", "event", "firing", "hard", "is_open", "plan", "shields", "start")

    def __init__(  # noqa: PLR0917 - on the hot path, where keywords cost
        self, plan: Plan, event: object, context: object, start: float, hard: float, due: float
    ) -> None:
        self.plan = plan  # handler's thread; an inner @watch puts a merged one in the place
        self.event = event  # to tell what kind of invocation it is; never logged
        self.context = context
        self.start = start
        self.hard = hard
        # When the watchdog must look next; written by the handler's thread until firing is set, or
        # cannot be.
        self.due = due
        self.is_open = True  # handler's thread only
        self.firing: Firing | None = None  # watchdog thread only, once
        self.shields = 0  # handler's thread only

    def timeline(self) -> Timeline:
        settings = self.plan.settings
        return Timeline(
            self.start,
            self.hard,
            grace_period=settings.grace_period,
            hook_budget=settings.hook_budget,
            last_call=settings.last_call,
        )

    def has_fired(self) -> bool:
        """Whether the watchdog has begun the grace period. Thread: any."""
        firing = self.firing
        return firing is not None and firing.fired_at is not None

    def is_out_of_time(self) -> bool:
        """Whether the grace period has come: what has not been begun is not to be. Thread: any."""
        return self.has_fired() or SystemClock.monotonic() >= self.timeline().grace_at

    def reschedule(self) -> None:
        """Work out anew when the watchdog has to look first: plan or hooks have changed."""
        timeline = self.timeline()
        self.due = min(
            timeline.grace_at,
            *(
                timeline.stage_at(hook.before)
                for registry in self.plan.registries
                for hook in registry.snapshot()
                if hook.before is not None
            ),
            timeline.grace_at,  # min() wants two
        )


active: dict[int, Invocation] = {}
"""Thread id -> its invocation. Each thread writes its own entry; the watchdog copies the whole.

An entry that is not open is left over from a call that was torn down between closing and removing
it (a signal handler of the user's that raised there) and counts as none.
"""


def current() -> Invocation | None:
    """The invocation that this thread works for: its own, or else the only one under way."""
    invocation = active.get(get_ident())
    if invocation is None and len(active) == 1:
        # A worker thread of the handler, or a hook.
        invocation = next(iter(list(active.values())), None)
    return invocation if invocation is not None and invocation.is_open else None


def remaining_time() -> float:
    """Seconds to the hard deadline of the invocation under way; ``math.inf`` outside of one.

    Negative once the deadline has passed (Managed Instances do not enforce it). In a thread that
    the handler started it is the process's invocation, as long as there is just one.

    Thread: any.
    """
    invocation = current()
    return math.inf if invocation is None else invocation.hard - SystemClock.monotonic()
