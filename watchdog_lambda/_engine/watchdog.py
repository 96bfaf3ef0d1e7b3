"""The watchdog thread: one per process, asleep until something is due.

It sleeps until the earliest instant that it knows of. A handler's thread that arms an invocation
wakes it only for an earlier instant. So if all have the same timeout, the thread looks once in that
time, and arming costs two stores; order 2 of :mod:`.invocation` decides who is first. After each
wake-up the instants are compared with the clock again, so that nothing fires for an invocation that
has ended, even in a sandbox that was frozen and thawed.
"""

from __future__ import annotations

import math
import os
from _thread import get_ident, get_native_id

from watchdog_lambda._cpython import clauses, severing, stacks
from watchdog_lambda._cpython.delivery import Injector, Nudge
from watchdog_lambda._cpython.pace import Pace
from watchdog_lambda._cpython.taps import Tap
from watchdog_lambda._log import warn_once
from watchdog_lambda.errors import prepared

from .current import active, under_way
from .daemon import DaemonThread
from .escalation import Escalation
from .invocation import Firing
from .kernel_timers import KernelTimers
from .limit_escalation import LimitEscalation
from .limits import Limit, innermost, next_act, watched
from .nudged import decide
from .sampling import Sampling
from .services import Services

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from .clock import Clock
    from .invocation import Invocation
    from .services import LastResort, Report


class WatchdogThread(DaemonThread):
    """Watches every invocation of the process."""

    def __init__(self, clock: Clock, report: Report) -> None:
        super().__init__()
        self.clock = clock
        self.report = report
        # When the thread looks next without being rung; read on the hot path. It is infinite while
        # there is no thread, so that the first invocation rings, which starts the thread.
        self.wake_at = math.inf
        self.acts_at = math.inf  # the same without samples; the kernel timer is set for it
        self.nudge = Nudge(self._decide)
        self.tap = Tap(self._decide)
        self.injector = Injector()
        self.kernel_timers = KernelTimers(clock, self.nudge)
        self._pace = Pace()
        self._alarm = clock.make_alarm()
        # Until a call on the main thread every invocation rings: only there a nudge is installed.
        self._has_met_main = False
        # When the invocation that rang last would be due, and its time until the watchdog acts.
        self._hint = self._hint_span = -math.inf
        # Set if the settings ask for it; see _lambda.startup.
        self.last_resort: LastResort | None = None
        # The current ones. Watchdog thread only.
        self.escalations: dict[Invocation, Escalation | LimitEscalation] = {}
        self._sampling = Sampling(report)
        # Called one by one, with a look after each, when no instants are being compared:
        # watchdog_lambda.testing moves invocations in time. They must not raise.
        self.pending_calls: list[Callable[[], None]] = []

    def get_ready(self, wake_signal: str | int | None) -> None:
        """Start the thread, install the nudge, make the timers. Thread: any that runs a handler."""
        if self._thread_id is None:
            self._start()
        if self.nudge.number is None:
            # Repeat this until it works: the first invocation may not be on the main thread.
            self.nudge.install(wake_signal)
            self._has_met_main = self._has_met_main or get_native_id() == os.getpid()
            if self._has_met_main and wake_signal is not None:
                self._check_nudge()
        if self.nudge.reaches(get_ident()):
            self.kernel_timers.equip()
        self._keep_ballast()

    def wake(self, invocation: Invocation) -> None:
        """Make the thread look now. Thread: any that runs a handler."""
        self.get_ready(invocation.plan.settings.wake_signal)
        invocation.is_seen = True  # see .current
        # Even if it has ended before the thread looks, the thread sleeps no longer than until this
        # instant, so that the following invocations need not ring again.
        self._hint, acts_at = invocation.due, invocation.acts_at()
        self._hint_span = acts_at - invocation.start
        self.kernel_timers.choose([i for _, i in watched()] if innermost else (invocation,))
        self.kernel_timers.set(acts_at)
        self._alarm.ring()

    def preload(self) -> None:
        """Import everything that must not be imported while the watchdog fires."""
        clauses.preload()
        severing.preload()
        stacks.preload()
        self.report.preload()
        self.injector.preload()

    def reschedule(self) -> None:
        """Update the current invocations: hooks have changed. Thread: any."""
        for _, invocation in under_way():
            escalation = self.escalations.get(invocation)
            if escalation is not None:
                escalation.is_outdated = True
                self._alarm.ring()
            elif invocation.firing is None:
                invocation.reschedule()
                self.wake(invocation)

    def _check_nudge(self) -> None:
        """Warn once if there is no nudge although one was wanted. Thread: a handler's."""
        # Without a thread nothing is watched at all, and there has been a warning about that.
        if self.nudge.number is None and self._thread_id is not None:
            warn_once(
                "no nudge",
                "blocked calls are not interrupted: no nudge (%s); "
                "leave WATCHDOG_LAMBDA_WAKE_SIGNAL out, or name a signal that has no handler",
                self.nudge.refusal,
            )

    def _after_fork(self) -> None:
        # The child is not the runtime's process, so no invocation continues there.
        for invocation in active.values():
            invocation.firing = None
        active.clear()
        innermost.clear()
        prepared.clear()
        self.escalations.clear()
        self._pace.relax()
        super()._after_fork()
        self.kernel_timers.forget()
        self.last_resort = None  # a child must not answer
        self.nudge.move_to_this_thread()
        self.tap.forget()
        self._alarm = self.clock.make_alarm()
        self.wake_at = self.acts_at = math.inf

    def _watch(self) -> None:
        self._begin_anew(self._alarm.wait, self.report)
        while self._goes_on:
            self.kernel_timers.rest()
            if self.pending_calls:
                self.pending_calls.pop(0)()
            now = self.clock.monotonic()
            earliest = self._look()
            hint = now + self._hint_span if self._hint > now else math.inf
            acts_at = next_act(earliest)
            if self._has_met_main:
                self.wake_at, self.acts_at = earliest, min(acts_at, hint)
            # Look again: one armed before this store may have read the old wake_at and not rung.
            if self.pending_calls or any(
                i.due < earliest and i.is_open and i.firing is None for _, i in watched()
            ):
                continue
            near_at = self.kernel_timers.set(acts_at, hint, self._sampling.near)
            if near_at > acts_at:
                self._pace.quicken()
            doze_to = acts_at if self._has_met_main and hint >= acts_at else -math.inf
            self._sampling.doze(self, self._alarm, min(earliest, near_at), doze_to)

    def _look(self) -> float:
        """Advance every invocation that has something due. Return when the next thing is due."""
        now = self.clock.monotonic()
        earliest = math.inf
        invocations = watched()
        known = {i for _, i in invocations}
        for ended in self.escalations.keys() - known:
            del self.escalations[ended]
        self._sampling.keep(known)
        for thread_id, invocation in invocations:
            # Take the sample first: once the watchdog has fired, the samples are complete.
            sample_at = self._sampling.look(invocation, thread_id, now)
            due = invocation.acts_at()
            # Advance a timeout in progress even if nothing is due: a hook may have ended and rung.
            if due <= now or invocation in self.escalations:
                due = self._advance(invocation, thread_id)
                if due < math.inf:
                    invocation.due = due
            elif invocation.due <= now:
                invocation.due = min(due, sample_at)
            earliest = min(earliest, due, sample_at)
        if not any(e.is_urgent() for e in self.escalations.values()):
            self._pace.relax()
        if invocations or self._hint <= now:
            self.kernel_timers.choose((i for _, i in invocations), now)
        else:
            self.kernel_timers.keep()
        # Once the hint has passed, too, an idle process sleeps indefinitely.
        return min(earliest, self._hint) if self._hint > now else earliest

    def _advance(self, invocation: Invocation, thread_id: int) -> float:
        """Advance one invocation. Return when to do so again."""
        firing = invocation.firing
        self._pace.quicken()
        try:
            if firing is None:
                services = Services(
                    self.clock,
                    self._alarm,
                    self.nudge,
                    self.tap,
                    self.injector,
                    self.kernel_timers,
                    self.report,
                    self.last_resort,
                )
                # First publish, then read whether it is still open; see invocation.py.
                firing = invocation.firing = Firing(invocation, thread_id, services)
                firing.samples = self._sampling.of(invocation)
            escalation = self.escalations.get(invocation)
            if escalation is None:
                if firing.is_over or not invocation.is_open:
                    return math.inf
                escalation = self.escalations[invocation] = (
                    LimitEscalation(firing, invocation)
                    if isinstance(invocation, Limit)
                    else Escalation(firing)
                )
            due = escalation.step()
        except MemoryError:
            raise  # the thread continues where it was, once there is memory again
        except Exception as error:  # noqa: BLE001 - the thread must outlive one broken firing
            self.report.write_failure(error)
            due = None
        if due is None:
            self.escalations.pop(invocation, None)
            if firing is None:
                # Not even the firing could be made. If it stayed due, we would retry endlessly.
                invocation.due = math.inf
            else:
                firing.is_over = True
            return math.inf
        return invocation.start + due

    def _decide(self, frame: FrameType | None) -> BaseException | None:
        """Return the error to raise there. Thread: a handler's, in the middle of anything."""
        try:
            return decide(frame, self.clock, self._alarm.ring, self._pace, self.kernel_timers)
        except MemoryError:  # do not raise it in the handler; the next nudge has the ballast
            self._ballast = None
            return None
