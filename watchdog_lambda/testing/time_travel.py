"""Moves an invocation in time, for tests: the machinery of :mod:`watchdog_lambda.testing`.

The clock is always the machine's. Instead, the invocation's start moves back, together with the
instant of the watchdog's next look, so that the time appears to have passed. Nothing else is
simulated: the watchdog thread sees what is due, runs the hooks and lands the interrupt as in
production.

Time moves from one instant at which something is due to the next. At each of them the calling
thread waits, in real time, until everything due has been done, so a test's result does not depend
on the speed of the machine.

The watchdog thread itself moves the instants, between two looks at them (see
:attr:`WatchdogThread.pending_calls`), so it never compares a moved instant with one not yet moved.
"""

from __future__ import annotations

import math
from _thread import get_ident
from functools import partial

from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.current import current
from watchdog_lambda._engine.escalation import Escalation
from watchdog_lambda._engine.limits import of_thread, watched
from watchdog_lambda._engine.stage import Stage
from watchdog_lambda._process import process_watchdog
from watchdog_lambda._report.record import obstacle

from .moves import (
    BOUND,
    EPSILON,
    ClockError,
    have_done,
    is_to_land,
    limits_of,
    move_back,
    moves,
)
from .waiting import frames, is_interrupt_expected, landing, wait_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog_lambda._engine.clock import Timeline
    from watchdog_lambda._engine.invocation import Firing, Invocation


class TimeTravel:
    """Moves the time of one invocation, on behalf of the calling thread."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.ident = get_ident()
        self.is_handlers = invocation in of_thread(self.ident)
        self.is_hooks = any(f.f_code is Stage._call.__code__ for f in frames())
        self._move = moves.get(invocation, 0)  # the last move that we know of
        self._is_alone = True  # no other thread has moved the invocation since

    @property
    def elapsed(self) -> float:
        """Seconds since the invocation's start, as the package and the handler see it."""
        return self.invocation.elapsed()

    @property
    def timeline(self) -> Timeline:
        """When each thing is due, in seconds since the start."""
        return self.invocation.timeline()

    # ---- going on ----------------------------------------------------------------------------

    def go_to(self, after: float) -> None:
        """Let time pass until `after` seconds from the start, with everything due on the way.

        In the handler's thread, interrupts land in here.
        """
        __tracebackhide__ = True
        if self.is_hooks:
            # Do not wait: the stage that runs this hook cannot end before the hook returns.
            self._move_to(after)
            return
        step = self.elapsed
        while True:
            interrupts = self._interrupts()
            step = min(after, self._next_event(step))
            self._move_to(step)
            with landing(partial(self.realign, step)):
                self._let_hooks_run()
                self._let_the_interrupt_land()
            # If the interrupt landed in another thread, stop here as well: the handler has ended.
            if step >= after or not self.invocation.is_open or self._interrupts() != interrupts:
                return

    def land(self) -> None:
        """Wait for the hooks, and for the next interrupt if one is due, without moving time."""
        __tracebackhide__ = True
        with landing(partial(self.realign, None)):
            self._let_hooks_run()
            self._let_the_interrupt_land()

    def approach(self, after: float) -> None:
        """Let time pass like :meth:`go_to`, but do not wait for what is due at the end.

        No interrupt lands in here.
        """
        step = self.elapsed
        while step < after:
            step = min(after, self._next_event(step))
            self._move_to(step)
            if step < after:
                self._let_hooks_run()

    def why_nothing_lands(self) -> str:
        """Return the reason why an interrupt has not landed, for the message about it."""
        firing = self.invocation.firing
        why = None if firing is None else obstacle(firing, "stuck")
        return why or "the watchdog thread has not acted yet"

    def realign(self, after: float | None) -> None:
        """Remove the real time that the landing took: it counts as `after` seconds from the start.

        This way the message has the test's own figures, on any machine.

        Thread: the handler's, while it handles the interrupt.
        """
        firing = self.invocation.firing
        if after is None or firing is None or not firing.policy.records:
            return
        if not self._is_alone or moves.get(self.invocation, 0) != self._move:
            return  # a hook or another thread has moved time forward: it must not go back
        record = firing.policy.records[-1]
        stage = firing.grace_stage
        if len(firing.policy.records) == 1 and stage is not None and not stage.has_ended():
            after += firing.timeline.hook_budget  # a hook has hung and used up the budget
        drift = record.at - (after + EPSILON)
        if drift <= 0:
            return

        def take_out() -> None:
            move_back(self.invocation, -drift)
            record.at -= drift
            if record.landed_at is not None:
                record.landed_at -= drift

        self._have_done(take_out)
        error = record.error()
        if error is not None:
            error.args = (self.invocation.message(record.at, record.place),)

    # ---- steps -------------------------------------------------------------------------------

    def _next_event(self, after: float) -> float:
        """Return when something is due next, in seconds from the start; infinity if nothing is."""
        invocation = self.invocation
        firing = invocation.firing
        limits = limits_of(self.ident, invocation)
        times = [limit.hard - invocation.start for limit in limits if limit.is_open]
        escalation = process_watchdog.escalations.get(invocation)
        if firing is None:
            times.append(invocation.due - invocation.start)
        if firing is None or not isinstance(escalation, Escalation):
            return min((at for at in times if at > after + EPSILON), default=math.inf)
        times += [at for at, _ in escalation.stages_to_come()]
        if firing.fired_at is not None:
            times += [firing.timeline.last_call_at, escalation.stuck_at(firing.fired_at)]
        return min((at for at in times if at > after + EPSILON), default=math.inf)

    def _move_to(self, after: float) -> None:
        """Move time to `after` seconds from the start, if it is earlier, and begin what is due."""
        invocation = self.invocation

        def move() -> None:
            count = moves.get(invocation, 0)
            self._is_alone = self._is_alone and count == self._move
            self._move = moves[invocation] = count + 1
            missing = after + EPSILON - self.elapsed
            if missing > 0:
                for moved in (invocation, *limits_of(self.ident, self.invocation)):
                    move_back(moved, missing)

        self._have_done(move)
        # The second call runs only after the look that follows the first.
        self._have_done(lambda: None)

    def _have_done(self, call: Callable[[], None]) -> None:
        have_done(call, self.invocation if self.is_handlers else None)

    def _let_hooks_run(self) -> None:
        """Wait until the hooks that have begun have ended or used up their budget."""
        __tracebackhide__ = True
        firing = self.invocation.firing
        if firing is not None:
            stages = firing.stages
            wait_until(lambda: all(stage.is_over() for stage in stages), math.inf)

    def _let_the_interrupt_land(self) -> None:
        """In the grace period, wait for the interrupt, if one is due."""
        __tracebackhide__ = True
        invocation = self.invocation
        firing = invocation.firing
        until = SystemClock.monotonic() + BOUND
        if any(is_to_land(limit) for limit in limits_of(self.ident, self.invocation)):
            wait_until(lambda: False, until)
            raise ClockError("the interrupt of a time_limit has not landed")
        if firing is None or firing.fired_at is None:
            return
        if invocation.plan.settings.interrupt != "none":
            # If a shield is up, its end lands the interrupt.
            wait_until(lambda: not firing.policy.is_waiting or not invocation.is_open, until)
        if not self.is_handlers:
            wait_until(lambda: self._is_over_elsewhere(firing), until)
        elif is_interrupt_expected(self.invocation):
            wait_until(lambda: False, until)
            raise ClockError(f"the interrupt has not landed: {self.why_nothing_lands()}")

    def _is_over_elsewhere(self, firing: Firing) -> bool:
        """Return whether the handler's thread has had its interrupt, or none is due now."""
        invocation = self.invocation
        if not invocation.is_open or invocation.plan.settings.interrupt == "none":
            return True
        if invocation.shields and self.elapsed < self.timeline.last_call_at:
            return True
        return any(record.landed_at is not None for record in firing.policy.records)

    def _interrupts(self) -> int:
        firing = self.invocation.firing
        return 0 if firing is None else len(firing.policy.records)


def find() -> TimeTravel | None:
    """Return a TimeTravel for this thread's invocation, if there is one."""
    for ended in moves.keys() - {invocation for _, invocation in watched()}:
        moves.pop(ended, None)
    invocation = current() or next(iter(of_thread(get_ident())), None)
    return None if invocation is None else TimeTravel(invocation)
