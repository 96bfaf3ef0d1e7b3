"""What holds for an invocation by its times and its plan alone: nothing here changes."""

from __future__ import annotations

from watchdog_lambda._config import SAMPLES_SHARE
from watchdog_lambda.errors import LambdaTimeout

from .clock import SystemClock, Timeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from watchdog_lambda._plan import Plan

    from .rungs import Kind


class Timed:
    """What has a start, a limit and a plan."""

    __slots__ = ("due", "event", "limit", "plan", "start")

    plan: Plan
    event: object
    start: float
    limit: float
    due: float

    # Of :class:`.invocation.Invocation`, which is built on this; said here for the policy and the
    # kernel's timers, which that module imports.
    is_open: bool
    shields: int
    firing: Any

    first_kind: Kind = LambdaTimeout
    """What lands first where no library stands between it and the user's code."""

    @property
    def hard(self) -> float:
        """The hard deadline. Thread: any."""
        return self.start + self.limit

    def timeline(self) -> Timeline:
        settings = self.plan.settings
        return Timeline(
            self.limit,
            grace_period=settings.grace_period,
            hook_budget=settings.hook_budget,
            last_call=settings.last_call,
        )

    def elapsed(self) -> float:
        """Seconds since the start. Thread: any."""
        return SystemClock.monotonic() - self.start

    def may_be_interrupted(self) -> bool:
        """Whether interrupts are wanted, and an error would not be final. Thread: any."""
        return self.plan.may_interrupt(self.event)

    def message(self, after: float, place: str) -> str:
        """What an interrupt says that lands `after` seconds from the start. Thread: any."""
        limit = self.limit
        # After it where nobody kills, as in Managed Instances, and C code was not to be reached.
        side = "before" if after <= limit else "after"
        # What is read must add up: 0.75 and 0.25 of 1.0 s can be rounded to 0.7 and 0.2.
        left, limit = round(limit - after, 1), round(limit, 1)
        return (
            f"interrupted after {limit - left:.1f} s, {abs(left):.1f} s {side} the "
            f"{limit:.1f} s limit, in {place}"
        )

    def is_sampled(self) -> bool:
        """Whether the watchdog looks at it before it acts; see :mod:`.sampling`. Thread: any."""
        return self.plan.settings.samples > 0

    def is_acted_on(self) -> bool:
        """Whether the watchdog acts on it. Thread: any."""
        raise NotImplementedError

    def acts_at(self) -> float:
        """When the watchdog acts next, whenever it looks before. Thread: any."""
        if self.is_acted_on() or not self.is_sampled():
            return self.due
        return max(self.due, self._first_act())

    def reschedule(self) -> None:
        """Work out anew when the watchdog has to look first: plan or hooks have changed."""
        first = self._first_act()
        if self.is_sampled():
            first = min(first, self.start + self.limit * SAMPLES_SHARE)
        self.due = first

    def _first_act(self) -> float:
        timeline = self.timeline()
        hooks = (hook for registry in self.plan.registries for hook in registry.snapshot())
        stages = [timeline.stage_at(hook.before) for hook in hooks if hook.before is not None]
        return self.start + min([timeline.grace_at, *stages])

    def may_land(self) -> bool:
        """Whether the handler's thread is in what this limits. Thread: any."""
        return True
