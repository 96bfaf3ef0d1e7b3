"""Tries to land the interrupts of one timeout, repeatedly, until the handler's thread has settled.

Thread: watchdog.
"""

from __future__ import annotations

from watchdog_lambda._cpython.stacks import handled_by
from watchdog_lambda._cpython.waiting import main_is_blocked

from .cadence import NUDGE_PERIOD, Cadence
from .landing import inject
from .limits import cleans_up_for_another
from .severing import Severing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .invocation import Firing

PUT_OFF_PERIOD = 0.001
"""Seconds between nudges while an interrupt is deferred: the next one meets another instruction."""

LATE_PERIOD = 0.25
"""The same once the hard deadline has passed without a kill (Managed Instances)."""


class Press:
    """The attempts to land the interrupts of one firing."""

    __slots__ = ("_cadence", "_firing", "_severing")

    def __init__(self, firing: Firing) -> None:
        self._firing = firing
        self._cadence = Cadence(firing.services.nudge)
        self._severing = Severing(firing, self._cadence)

    def step(self, now: float) -> float:
        """Try to land an interrupt. Return when to try again."""
        firing = self._firing
        if not firing.invocation.is_open or not firing.may_interrupt:
            return now + LATE_PERIOD
        services, policy, thread_id = firing.services, firing.policy, firing.thread_id
        nudges = services.nudge.reaches(thread_id)
        if nudges or services.injector.available:
            firing.delivery = "nudge" if nudges else "injection"
        if policy.is_waiting and firing.details is not None:
            policy.start(firing.details)
        if nudges and self._cadence.is_quiet(now):
            return self._cadence.quiet_until
        handled = handled_by(thread_id)
        pause = NUDGE_PERIOD
        # Ask here before nudging, so that a cleanup that must not be interrupted is not disturbed.
        if policy.is_wanted(now, handled) and not cleans_up_for_another(
            firing.invocation, thread_id, handled
        ):
            if nudges:
                self._severing.step(now)
                # Do this last: it must still be true when the nudge arrives.
                firing.looks_blocked = main_is_blocked(thread_id)
                pause = self._cadence.send(now, firing.timeline.last_call_at)
            elif services.injector.available:
                inject(firing, now, handled)
        else:
            policy.leave_alone()
        if policy.is_put_off:
            return now + PUT_OFF_PERIOD
        return now + (pause if now < firing.timeline.limit else LATE_PERIOD)
