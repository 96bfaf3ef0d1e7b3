"""What the watchdog does with one timeout, and when: stages of hooks, interrupts, giving up.

All of it in the watchdog's thread, a step at a time. What the handler's thread may do meanwhile is
ordered in :mod:`.invocation`. Times are in seconds since the invocation's start.
"""

from __future__ import annotations

import math

from watchdog_lambda._hooks import stages

from .invocation import CONCLUDED
from .press import Press
from .snapshot import look
from .stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .invocation import Firing

GIVE_UP_SHARES = {"report": 0.5, "exit": 0.5, "supervise": 0.1}
"""How much of the time from last call to the hard deadline a handler gets before it is given up.

It is for the interrupt that cuts even a cleanup short: whom it brings back reports its own end. A
supervisor needs the rest: it answers a quarter of a second before the hard deadline at the latest.
"""


class Escalation:
    """The course of one timeout. Thread: watchdog."""

    __slots__ = (
        "_begun",
        "_has_given_up",
        "_invocation",
        "_press",
        "_timeline",
        "_todo",
        "firing",
        "is_outdated",
    )

    def __init__(self, firing: Firing) -> None:
        self.firing = firing
        self._invocation = firing.invocation
        self._timeline = firing.timeline
        self._has_given_up = False
        self._press = Press(firing)
        self._begun: set[float | None] = set()  # stages, by their hooks' `before`
        self._todo: list[tuple[float, float | None]] = []  # the stages to come
        self.is_outdated = True  # of _todo; set where a hook is registered, by any thread

    def step(self) -> float | None:
        """Do what is due; when to go on, or None once there is nothing left to do.

        May be called at any time, and again where memory was short: what has been begun is not
        begun anew.
        """
        firing = self.firing
        # Looked at again soon after the handler's end (Press sees to that), so that what the
        # invocation holds is not kept alive by us.
        if firing.handler_state == CONCLUDED and all(stage.is_over() for stage in firing.stages):
            return None
        if self.is_outdated:
            # Clear it first. A hook that is registered in between is seen the next time: its thread
            # sets this after it has registered it, and rings.
            self.is_outdated = False
            try:
                self._todo = self.stages_to_come()
            except MemoryError:
                self.is_outdated = True
                raise
        now = firing.elapsed()
        if not self._begin_due(now):
            return None
        wake = self._todo[0][0] if self._todo else math.inf
        for stage in firing.stages:
            if not stage.is_over():
                wake = min(wake, stage.ends_at)
        if firing.grace_stage is not None and firing.grace_stage.is_over():
            wake = min(wake, self._press.step(now))
        if firing.fired_at is not None and not self._has_given_up:
            stuck_at = self.stuck_at(firing.fired_at)
            if now >= stuck_at:
                self._give_up(now)
            else:
                wake = min(wake, stuck_at)
        return wake

    def is_urgent(self) -> bool:
        """Whether hooks run or interrupts are due, so that threads should not wait for the GIL."""
        firing = self.firing
        if any(not stage.is_over() for stage in firing.stages):
            return True
        return firing.fired_at is not None and not self._has_given_up

    def stages_to_come(self) -> list[tuple[float, float | None]]:
        """The stages that have not begun, in order: when, and the ``before`` of their hooks.

        Thread: any.
        """
        timeline = self._timeline
        befores = stages(self._invocation.plan.registries).keys() | {None}
        return sorted(
            (
                (timeline.grace_at if before is None else timeline.stage_at(before), before)
                for before in befores - self._begun
            ),
            key=lambda stage: stage[0],
        )

    def stuck_at(self, fired_at: float) -> float:
        """When a handler that has not come back is reported as stuck."""
        if fired_at >= self._timeline.limit:
            # C code held the GIL beyond the hard deadline, and nobody has killed (Managed
            # Instances): hooks and interrupts come first.
            return fired_at + self._timeline.grace_period
        timeline = self._timeline
        share = GIVE_UP_SHARES[self._invocation.plan.settings.last_resort]
        return timeline.last_call_at + share * (timeline.limit - timeline.last_call_at)

    def _begin_due(self, now: float) -> bool:
        """Begin the stages that are due; False if the invocation has settled."""
        todo = self._todo
        while todo and todo[0][0] <= now:
            before = todo[0][1]
            if not self._begin(now, before):
                return False
            # Afterwards: where memory was short, it is begun again.
            self._begun.add(before)
            del todo[0]
        return True

    def _begin(self, now: float, before: float | None) -> bool:
        """Begin one stage; False if the invocation has settled."""
        firing, services = self.firing, self.firing.services
        details = look(firing, now)
        # Looked up now: a block of the handler's may have come and gone since the stage before.
        hooks = stages(self._invocation.plan.registries).get(before, [])
        stage = Stage(
            hooks, details, self._timeline.hook_budget, firing.stopwatch, services.alarm.ring
        )
        if not firing.begin(stage, details, now if before is None else None):
            return False
        stage.begin()
        return True

    def _give_up(self, now: float) -> None:
        """Last call has passed and the handler has not come back: say where it is, and leave."""
        self._has_given_up = True
        firing, services = self.firing, self.firing.services
        look(firing, now)  # for the record
        action = self._invocation.plan.settings.last_resort
        if action == "report" or now >= self._timeline.limit:
            why_not = None
        elif services.last_resort is None:
            why_not = "not available here"
        elif not firing.may_interrupt and self._invocation.plan.settings.interrupt != "none":
            why_not = "a durable function: an error would be final"
        else:
            # Returns only if it has not come to it.
            why_not = services.last_resort.act(firing)
        if self._invocation.is_open:
            firing.report("stuck", None if why_not is None else f"not {action}: {why_not}")
