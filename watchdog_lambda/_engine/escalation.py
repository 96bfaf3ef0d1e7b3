"""The watchdog's actions in one timeout: stages of hooks, interrupts, giving up.

All of them run in the watchdog's thread, one step at a time. :mod:`.invocation` defines the order
relative to the handler's thread. Times are in seconds since the invocation's start.
"""

from __future__ import annotations

import math

from watchdog_lambda._hooks import stages

from .press import Press
from .snapshot import look
from .stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .invocation import Firing

GIVE_UP_SHARES = {"report": 0.5, "exit": 0.5, "supervise": 0.1}
"""The share of the time from last call to the hard deadline before we give up on the handler.

In this time last call's interrupt, which cuts even a cleanup short, can still land; a handler that
returns reports its own outcome. A supervisor needs the rest.
"""

_AHEAD = 1.1
"""How far ahead of a supervisor, which acts by itself at some point, we give up, as a multiple of
its margin: a record of ours says more than one of its own."""


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
        self.is_outdated = True  # whether _todo is; set by any thread that registers a hook

    def step(self) -> float | None:
        """Do what is due. Return when to continue, or None if nothing is left to do.

        May be called at any time, and again after a MemoryError: what has begun is not repeated.
        """
        firing = self.firing
        # Press makes us look again soon after the handler's end, so that we do not keep alive what
        # the invocation holds.
        if firing.is_concluded and all(stage.is_over() for stage in firing.stages):
            return None
        if self.is_outdated:
            # Clear this first. A hook that is registered in between is then seen the next time,
            # because its thread sets this after the registration, and rings.
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
        """Return whether hooks run or interrupts are due, so that switches must be quick."""
        firing = self.firing
        if any(not stage.is_over() for stage in firing.stages):
            return True
        return firing.fired_at is not None and not self._has_given_up

    def stages_to_come(self) -> list[tuple[float, float | None]]:
        """Return the stages that have not begun, in order: their time and their hooks' ``before``.

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
        """Return when a handler that has not returned is reported as stuck."""
        if fired_at >= self._timeline.limit:
            # C code held the GIL beyond the hard deadline, and the process was not killed (Managed
            # Instances): give hooks and interrupts their time first.
            return fired_at + self._timeline.grace_period
        timeline = self._timeline
        share = GIVE_UP_SHARES[self._invocation.plan.settings.last_resort]
        at = timeline.last_call_at + share * (timeline.limit - timeline.last_call_at)
        resort = self.firing.services.last_resort
        if resort is None:
            return at
        return min(at, timeline.limit - _AHEAD * resort.margin(timeline.limit))

    def _begin_due(self, now: float) -> bool:
        """Begin the stages that are due; False if the invocation has settled."""
        todo = self._todo
        while todo and todo[0][0] <= now:
            before = todo[0][1]
            if not self._begin(now, before):
                return False
            # Only now: after a MemoryError the stage is begun again.
            self._begun.add(before)
            del todo[0]
        return True

    def _begin(self, now: float, before: float | None) -> bool:
        """Begin one stage; False if the invocation has settled."""
        firing, services = self.firing, self.firing.services
        details = look(firing, now)
        # Look the hooks up now: blocks with a scoped_hook may have begun or ended since.
        hooks = stages(self._invocation.plan.registries).get(before, [])
        stage = Stage(
            hooks, details, self._timeline.hook_budget, firing.stopwatch, services.alarm.ring
        )
        if not firing.begin(stage, details, now if before is None else None):
            return False
        stage.begin()
        return True

    def _give_up(self, now: float) -> None:
        """Give up on the handler, which has not returned by now: report it, or answer for it."""
        self._has_given_up = True
        firing, services = self.firing, self.firing.services
        look(firing, now)  # update the stacks for the record
        action = self._invocation.plan.settings.last_resort
        if action == "report" or now >= self._timeline.limit:
            why_not = None
        elif services.last_resort is None:
            why_not = "not available here"
        elif not firing.may_interrupt and self._invocation.plan.settings.interrupt != "none":
            why_not = "a durable function: an error would be final"
        else:
            # This returns only if the handler was not answered for.
            why_not = services.last_resort.act(firing)
        if self._invocation.is_open:
            firing.report("stuck", None if why_not is None else f"not {action}: {why_not}")
