"""The watchdog's actions for a block that has reached its limit: interrupts only.

Thread: watchdog.
"""

from __future__ import annotations

from .press import Press
from .snapshot import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .invocation import Firing
    from .limits import Limit

AWAITED_PERIOD = 0.05
"""Seconds between two looks at a task that was cancelled: has it swallowed that?"""


class LimitEscalation:
    """The interrupts for one limit."""

    __slots__ = ("_limit", "_press", "firing", "is_outdated")

    def __init__(self, firing: Firing, limit: Limit) -> None:
        self.firing = firing
        self.is_outdated = False  # has no meaning here: a block has no hooks
        self._limit = limit
        self._press = Press(firing)

    def step(self) -> float | None:
        """Do what is due. Return when to continue, or None once the block has been left."""
        firing = self.firing
        now = firing.elapsed()
        if now < firing.timeline.grace_at:
            return firing.timeline.grace_at
        if firing.fired_at is None:
            details = look(firing, now)
            if not firing.begin(None, details, now):
                return None
        if not self._limit.is_open:
            return None
        self._limit.cancel_soon()
        if self._limit.is_cancelled:
            return now + AWAITED_PERIOD
        return self._press.step(now)

    def is_urgent(self) -> bool:
        """Return whether switches must be quick."""
        return self._limit.is_open and not self._limit.is_cancelled
