"""The watchdog thread: one per process, parked until something is due, woken by nobody otherwise.

The thread sleeps until the earliest instant that it knows of. A handler's thread that arms an
invocation wakes it only if its own instant comes before that; so where every invocation has the
same timeout, an earlier one's deadline has the thread look once per timeout's length, and arming
costs two stores. Two stores and two reads decide, without a lock:

    handler's thread              watchdog thread
    active[ident] = invocation    wake_at = the earliest instant
    read wake_at                  read active again

At least one sees the other's store: the handler's thread rings, or the watchdog sees the
invocation. Swapping either pair loses a wake-up; pinned by
``tests/threads/test_watchdog_thread.py``.

Nothing here trusts a wait: on every wake-up the instants are compared with the clock anew, so that
a sandbox that was frozen and thawed, with or without the monotonic clock going on, fires nothing of
an invocation that has ended.

Two locks, and nobody waits for either. `_starting` is held while the thread is started, `_living`
by the thread that watches, for its whole life.
"""

from __future__ import annotations

import _thread
import math
import os
from _thread import RLock, allocate_lock, get_ident, get_native_id, start_new_thread
from types import BuiltinFunctionType

from watchdog_lambda._cpython import bytecode, clauses, stacks
from watchdog_lambda._cpython.delivery import Injector, Nudge, refusal_without_gil
from watchdog_lambda._cpython.pace import Pace
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._log import warn_once
from watchdog_lambda.errors import prepared

from .escalation import Escalation
from .invocation import OVER, Firing, active
from .kernel_timers import LATE_BY, KernelTimers
from .landing import land
from .services import Services

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from .clock import Clock
    from .invocation import Invocation
    from .services import LastResort, Report


_YIELD = 0.001

BALLAST = 4 << 20
"""Bytes that are let go of when memory is short; never written to, so they take address space and
no memory. An arena of Python's small objects takes one of these four."""

SHORT_OF_MEMORY = 0.01
"""Seconds after which the thread tries again what it had no memory for."""


class WatchdogThread:
    """Watches every invocation of the process."""

    def __init__(self, clock: Clock, report: Report) -> None:
        self.clock = clock
        self.report = report
        # When the thread looks next without being rung; read on the hot path. While there is no
        # thread it is infinite, so that the first invocation rings, and starts it.
        self.wake_at = math.inf
        self.nudge = Nudge(self._decide)
        self.injector = Injector()
        self.kernel_timers = KernelTimers(clock, self.nudge)
        self._pace = Pace()
        self._alarm = clock.make_alarm()
        # Until then every invocation rings, for only the main thread can install the nudge.
        self._has_met_main = False
        self._hint = -math.inf  # when the invocation that rang last would have been due
        self._thread_id: int | None = None
        self._starting = RLock()
        self._living = allocate_lock()  # held by the one thread that watches
        self._goes_on = True  # the process's thread goes on for good; tests end theirs
        self._is_fork_safe = False
        # Once the settings have asked for it; see _prepare.
        self.last_resort: LastResort | None = None
        self.escalations: dict[Invocation, Escalation] = {}  # those under way; watchdog thread only
        # Done one by one, a look after each, when no instant of any invocation is being compared
        # with another: watchdog_lambda.testing moves invocations in time. They raise nothing.
        self.pending_calls: list[Callable[[], None]] = []
        self._ballast: bytes | None = None
        self._is_short = False  # of memory; watchdog thread only

    def wake(self, invocation: Invocation) -> None:
        """Have the thread look now; start it, and install the nudge, if that has not been done.

        Thread: any that runs a handler.
        """
        if self._thread_id is None:
            self._start()
        if self.nudge.number is None:
            # Again and again until it works: the first invocation may not be on the main thread.
            self.nudge.install(invocation.plan.settings.wake_signal)
            self._has_met_main = self._has_met_main or get_native_id() == os.getpid()
            if self._has_met_main and invocation.plan.settings.wake_signal is not None:
                self._check_nudge()
        if self.nudge.reaches(get_ident()):
            self.kernel_timers.equip()
        if self._ballast is None:
            self._ballast = bytes(BALLAST)
        # Should the invocation have ended before the thread comes to look, the thread still sleeps
        # until then and no longer: the invocations to come need not ring for it again.
        self._hint = invocation.due
        self.kernel_timers.choose((invocation,))
        self.kernel_timers.set(invocation.due)
        self._alarm.ring()

    def preload(self) -> None:
        """Import what must not be imported while the watchdog fires."""
        bytecode.preload()
        clauses.preload()
        stacks.preload()
        self.report.preload()
        self.injector.preload()

    def reschedule(self) -> None:
        """Hooks have changed: see to invocations that are under way. Thread: any."""
        for invocation in list(active.values()):
            course = self.escalations.get(invocation)
            if course is not None:
                course.is_outdated = True
                self._alarm.ring()
            elif invocation.firing is None:
                invocation.reschedule()
                self.wake(invocation)

    def _start(self) -> None:
        starting = self._starting
        try:
            # Not waited for: whoever holds it starts the thread, which then sees our invocation
            # too. In here, and given back by whoever has it only: a signal's handler of the user's
            # (the SIGALRM recipe's) can raise right behind the taking, and nothing would ever be
            # watched again. Pinned by test_a_start_can_be_broken_off_behind_any_call.
            if not starting.acquire(False):
                return
            if self._thread_id is None:
                _require_main_interpreter()
                _require_gil()
                self.preload()
                if self.last_resort is not None:
                    self.last_resort.preload()
                if not self._is_fork_safe:
                    os.register_at_fork(after_in_child=self._after_fork)
                    self._is_fork_safe = True  # behind it: broken off, better twice than never
                # Not threading.Thread: its start() waits for an Event, and takes a lock that user
                # code can hold. Nor does a process wait for this thread at its end.
                self._thread_id = start_new_thread(self._run, ())
            if not isinstance(start_new_thread, BuiltinFunctionType):
                self._complain(
                    "threads are not threads any more; "
                    "import watchdog_lambda before gevent.monkey.patch_all()"
                )
        except (RuntimeError, ImportError) as error:
            # No thread to be had, or no means to fire: the next invocation tries again.
            self._complain(f"no thread can be started ({error})")
        finally:
            try:
                starting.release()
            except RuntimeError:
                pass  # not ours

    def _complain(self, why: str) -> None:
        """Say once that protection is off."""
        warn_once("not watched", "invocations are not watched: %s", why)

    def _check_nudge(self) -> None:
        """Say once that there is none, though one was wanted. Thread: any that runs a handler."""
        # Without a thread nothing is watched at all, and that has been said.
        if self.nudge.number is None and self._thread_id is not None:
            warn_once(
                "no nudge",
                "blocked calls are not interrupted: no nudge (%s); "
                "leave WATCHDOG_LAMBDA_WAKE_SIGNAL out, or name a signal that nobody handles",
                self.nudge.refusal,
            )

    def _after_fork(self) -> None:
        # Neither the thread nor the invocation goes on in the child: it is not the runtime's
        # process. A lock that the thread held at that instant stays locked for good, so all are
        # made anew.
        for invocation in active.values():
            invocation.firing = None
        active.clear()
        prepared.clear()
        self.escalations.clear()
        self._pace.relax()
        self._starting = RLock()
        self._living = allocate_lock()
        self._thread_id = None
        self.kernel_timers.forget()
        self.last_resort = None  # a child answers to nobody
        self.nudge.move_to_this_thread()
        self._alarm = self.clock.make_alarm()
        self.wake_at = math.inf

    def _run(self) -> None:
        """The thread's whole life."""
        living = self._living
        # One too many is started where a start is broken off before it has stored that there is
        # one. Pinned by test_a_start_can_be_broken_off_behind_any_call.
        if not living.acquire(False):
            return
        try:
            while self._goes_on:  # pragma: no branch - tests end it in _watch()
                try:
                    self._watch()
                except MemoryError:
                    # Nothing is made in here: there may be no memory at all. The handler is very
                    # likely what has taken it, and must be reached all the same.
                    self._ballast = None
                    self._is_short = True
                else:
                    break
        finally:
            living.release()

    def _watch(self) -> None:
        alarm = self._alarm
        monotonic = self.clock.monotonic
        if self._is_short:
            self._is_short = False
            alarm.wait(SHORT_OF_MEMORY)
        while self._goes_on:
            self.kernel_timers.rest()
            if self.pending_calls:
                self.pending_calls.pop(0)()
            earliest = self._look()
            self.wake_at = earliest if self._has_met_main else math.inf
            # After the store, not before: an invocation armed in between has read the old wake_at
            # and may not have rung.
            if self.pending_calls or any(
                i.due < earliest and i.is_open and i.firing is None for i in list(active.values())
            ):
                continue
            self.kernel_timers.set(earliest)
            alarm.wait(earliest - monotonic())

    def _look(self) -> float:
        """Advance every invocation that has something due; when the next thing is."""
        now = self.clock.monotonic()
        earliest = math.inf
        invocations = list(active.items())
        for ended in self.escalations.keys() - {i for _, i in invocations}:
            del self.escalations[ended]
        for thread_id, invocation in invocations:
            due = invocation.due
            # What is under way is also advanced before its time: a hook may have ended and rung.
            if due <= now or invocation in self.escalations:
                due = self._advance(invocation, thread_id)
                if due < math.inf:
                    invocation.due = due
            earliest = min(earliest, due)
        if not any(course.is_urgent() for course in self.escalations.values()):
            self._pace.relax()
        # An idle process sleeps for good once that has passed as well.
        if not invocations and self._hint > now:
            self.kernel_timers.keep()
            return self._hint
        self.kernel_timers.choose(invocation for _, invocation in invocations)
        return earliest

    def _advance(self, invocation: Invocation, thread_id: int) -> float:
        """Go on with one invocation; when to do so again."""
        firing = invocation.firing
        self._pace.quicken()
        try:
            if firing is None:
                services = Services(
                    self.clock,
                    self._alarm,
                    self.nudge,
                    self.injector,
                    self.kernel_timers,
                    self.report,
                    self.last_resort,
                )
                # First publish, then look whether it is still open; see _invocation.
                firing = invocation.firing = Firing(invocation, thread_id, services)
            course = self.escalations.get(invocation)
            if course is None:
                if firing.watchdog_state == OVER or not invocation.is_open:
                    return math.inf
                course = self.escalations[invocation] = Escalation(firing)
            due = course.step()
        except MemoryError:
            raise  # it goes on where it was, as soon as there is some again
        except Exception as error:  # noqa: BLE001 - the thread must outlive one broken firing
            self.report.write_failure(error)
            due = None
        if due is None:
            self.escalations.pop(invocation, None)
            if firing is None:
                # Not even that could be made. Due as before, it would be tried without end.
                invocation.due = math.inf
            else:
                firing.watchdog_state = OVER
            return math.inf
        return invocation.start + due

    def _decide(self, frame: FrameType | None) -> BaseException | None:
        """What the nudge's handler raises. Thread: main, in the middle of anything."""
        invocation = active.get(get_ident())
        if invocation is None or not invocation.is_open or frame is None or is_ours(frame.f_code):
            return None
        try:
            if not self._has_caught_up(invocation):
                self._let_the_thread_run(invocation)
            if invocation.firing is None:
                return None
            return land(invocation.firing, frame)
        except MemoryError:  # not the handler's; the next nudge finds some more
            self._ballast = None
            return None

    def _has_caught_up(self, invocation: Invocation) -> bool:
        """Whether the thread has done what is due before an interrupt may land."""
        firing = invocation.firing
        if firing is None:
            return self.clock.monotonic() < invocation.due + LATE_BY / 2
        if any(not stage.is_over() for stage in firing.stages):
            return False
        return firing.elapsed() < firing.timeline.grace_at or not firing.policy.is_waiting

    def _let_the_thread_run(self, invocation: Invocation) -> None:
        """Give the GIL away until the watchdog has done what is due before the interrupt.

        The kernel's timer has nudged because the thread is late: C code holds the GIL, and it is
        we, called from inside of it, who can let go. Hooks run meanwhile, within their budget.
        """
        monotonic = self.clock.monotonic
        until = monotonic() + invocation.timeline().hook_budget + LATE_BY
        while monotonic() < until and not self._has_caught_up(invocation):
            self._alarm.ring()
            self.clock.pause(_YIELD)


def _require_gil() -> None:
    """Raise a RuntimeError without it: for what is watched by no decorator, which would refuse."""
    refusal = refusal_without_gil()
    if refusal is not None:
        raise RuntimeError(refusal)


def _require_main_interpreter() -> None:
    """Raise a RuntimeError in a sub-interpreter.

    No signal of Python's reaches one. And it could not be ended with our thread in it: CPython up
    to 3.13 then ends the whole process; 3.11 does not even run code in it a second time.
    """
    ask: Any = getattr(_thread, "_is_main_interpreter", None)
    if ask is not None:
        is_main = ask()
    else:  # 3.11
        try:
            interpreters: Any = __import__("_xxsubinterpreters")
        except ImportError:
            return
        is_main = interpreters.get_current() == interpreters.get_main()
    if not is_main:
        raise RuntimeError("in a sub-interpreter, which could not be ended any more")
