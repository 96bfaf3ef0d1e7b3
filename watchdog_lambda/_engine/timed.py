"""What follows from an invocation's times and its plan alone."""

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
    """Something with a start, a limit and a plan."""

    __slots__ = ("due", "event", "limit", "plan", "start")

    plan: Plan
    event: object
    start: float
    limit: float
    due: float

    # Attributes of :class:`.invocation.Invocation`, a subclass. They are declared here for the
    # policy and the kernel's timers, which that module imports.
    is_open: bool
    shields: int
    firing: Any

    first_kind: Kind = LambdaTimeout
    """What lands first if there is no library between the landing place and the user's code."""

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
        """Return the seconds since the start. Thread: any."""
        return SystemClock.monotonic() - self.start

    def may_be_interrupted(self) -> bool:
        """Return whether interrupts are wanted, and an error is not final. Thread: any."""
        return self.plan.may_interrupt(self.event)

    def message(self, after: float, place: str) -> str:
        """Return the message of an interrupt `after` seconds from the start. Thread: any."""
        limit = self.limit
        # Without a kill (Managed Instances) C code may hold up an interrupt until after the limit.
        side = "before" if after <= limit else "after"
        # The rounded figures must add up: 0.75 and 0.25 of 1.0 s can be rounded to 0.7 and 0.2.
        left, limit = round(limit - after, 1), round(limit, 1)
        return (
            f"interrupted after {limit - left:.1f} s, {abs(left):.1f} s {side} the "
            f"{limit:.1f} s limit, in {place}"
        )

    def is_sampled(self) -> bool:
        """Return whether the watchdog takes samples of it; see :mod:`.sampling`. Thread: any."""
        return self.plan.settings.samples > 0

    def is_acted_on(self) -> bool:
        """Return whether the watchdog acts on it. Thread: any."""
        raise NotImplementedError

    def acts_at(self) -> float:
        """Return when the watchdog acts next, regardless of samples before. Thread: any."""
        if self.is_acted_on() or not self.is_sampled():
            return self.due
        return max(self.due, self._first_act())

    def reschedule(self) -> None:
        """Compute again when the watchdog must look first: plan or hooks have changed."""
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
        """Return whether the handler's thread is in what this limits. Thread: any."""
        return True
