"""The kernel's timers, which act if the watchdog cannot wake in time because C code holds the GIL.

The first one nudges, slightly after the instant at which the thread must act (:mod:`.timers`). It
is not set for an instant at which the thread only takes a sample, because a handler that is in time
must never be nudged. The nudge interrupts C code that checks for signals. The second one makes
every thread's stack be dumped, later (:mod:`.stack_dump`).

Both are set before the thread goes to sleep, by the thread itself or by an invocation that rings
it: its handler may hold the GIL from the first instruction on, so that the thread could never set
them. Both threads hold the GIL then, so there is no lock.

    handler's thread, at its end  before the thread sleeps
    is_open = False               dump_for = invocation; set the timer
    read dump_for                 read is_open

Whichever thread is first, no stacks are dumped for an invocation that has ended: a sandbox is
frozen between invocations, and all timers ring when it thaws. Pinned by
``test_no_stack_dump_for_ended_invocation``.
"""

from __future__ import annotations

import atexit
import math

from watchdog_lambda._cpython.stack_dump import StackDumpTimer
from watchdog_lambda._cpython.timers import ThreadTimer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from watchdog_lambda._cpython.delivery import Nudge

    from .clock import Clock, Timeline
    from .timed import Timed

LATE_BY = 0.002
"""Seconds that the thread may be late before the kernel timer nudges in its place. Then a handler
that computes stops until the thread has done what is due."""

IDLE_PERIOD = 0.02
"""Seconds between nudges while nothing is under way and the thread is late."""

NEAR = 0.05
"""Seconds before the instant at which the thread checks once more that the instant is still right.
So no invocation that is not due is nudged, unless the thread has not had the GIL for this long."""

LEAST_DUMP = 0.01
"""The least seconds between a dump and the hard deadline. If there is less (a function with less
than a second), the watchdog's own work can take longer, and a dump while threads run is not safe.
"""


class KernelTimers:
    """The kernel's timers of this process; it has none before :meth:`equip`."""

    __slots__ = (
        "_clock",
        "_dump",
        "_nudge",
        "_nudge_for",
        "_others_at",
        "_seen_at",
        "_start",
        "_timeline",
        "_timer",
        "dump_for",
        "next_at",
    )

    def __init__(self, clock: Clock, nudge: Nudge) -> None:
        self._clock = clock
        self._nudge = nudge
        self._timer: ThreadTimer | None = None
        self._dump: StackDumpTimer | None = None
        # The timeline that the dump is timed by. It is kept when its invocation has ended, for
        # those that come and go in the meantime.
        self._timeline: Timeline | None = None
        self._start = 0.0
        # The open invocation that the dump is for. Its end stops the timer.
        self.dump_for: Timed | None = None
        # The invocation that the nudge is for, whose end postpones it, and when others act.
        self._nudge_for: Timed | None = None
        self._others_at = math.inf
        self._seen_at = -math.inf  # when these were looked up
        # The instant it is postponed to, until the thread has looked.
        self.next_at = -math.inf

    def equip(self) -> None:
        """Create the timers, if there are none yet. Thread: main, once the nudge is installed."""
        # Only the main thread does this, so only once: no code would stop a second timer.
        if self._timer is None:
            timer = ThreadTimer(self._nudge.number, self._nudge.native_id)
            dump = StackDumpTimer(self._nudge.number, self._nudge.native_id)
            # At exit the interpreter restores the default handlers; a real-time signal after that
            # would kill the process.
            atexit.register(timer.stop)
            atexit.register(dump.stop)
            # Store them last: a user's signal handler can interrupt this, and then it is repeated.
            # Store the timer after the dump, because the check above is for the timer.
            self._dump, self._timer = dump, timer

    def forget(self) -> None:
        """Forget the timers in a child of fork, which does not inherit them."""
        self._timer = self._dump = None
        self.keep()

    def choose(self, invocations: Iterable[Timed], seen_at: float | None = None) -> None:
        """Time the dump for the invocation with the first deadline, the nudge for the first due.

        `seen_at` is the instant before they were looked up; None if that is now.
        """
        self._seen_at = self._clock.monotonic() if seen_at is None else seen_at
        self._nudge_for, self.next_at = None, -math.inf
        acts_at = self._others_at = math.inf
        timeline: Timeline | None = None
        dump_for: Timed | None = None
        earliest = math.inf
        for invocation in invocations:
            own_at = invocation.acts_at()
            if own_at < acts_at:
                self._nudge_for, acts_at, self._others_at = invocation, own_at, acts_at
            else:
                self._others_at = min(self._others_at, own_at)
            if invocation.firing is None or not invocation.firing.is_reported:
                own = invocation.timeline()
                dump_at = invocation.start + own.dump_at
                if dump_at < earliest:
                    earliest, timeline, dump_for = dump_at, own, invocation
        self._timeline, self.dump_for = timeline, dump_for
        if dump_for is not None:
            self._start = dump_for.start

    def keep(self) -> None:
        """Keep the time of the dump, for the invocations to come."""
        self.dump_for = self._nudge_for = None
        self.next_at = -math.inf

    def set(self, acts_at: float, stale_at: float = math.inf, near: float = NEAR) -> float:
        """Make the kernel act if the thread does not wake at `acts_at`.

        `stale_at` is the earliest instant of an invocation that has not begun yet. Returns when the
        thread should check once more that `acts_at` is right, which is `near` seconds before it;
        infinity if that is past.

        Thread: the one that is about to sleep.
        """
        timer, dump = self._timer, self._dump
        if timer is None or dump is None:
            return acts_at
        now = self._clock.monotonic()
        is_near = acts_at - now <= near
        if timer.available:
            if self._nudge.is_ours():
                timer.set(min(acts_at, stale_at) - now + LATE_BY, LATE_BY)
            else:
                timer.stop()  # the signal has a new owner
        # The invocation that the timer is for may have ended since we looked.
        if self._nudge_for is not None and not self._nudge_for.is_open:
            # The next one may have begun since, too, and C code in it may have held the GIL ever
            # since. Pinned by test_nudge_for_unseen_invocation_counts_from_the_look.
            self.nudge_next(self._nudge_for, self._seen_at)
        elif self.next_at > -math.inf:
            self.put_off(self.next_at)
        dump_for = self.dump_for
        self._set_dump(dump, self._timeline, now - self._start, is_open=dump_for is not None)
        if dump_for is not None and not dump_for.is_open:
            # It has ended between our store and the setting of the timer, and has stopped a timer
            # that was not set yet.
            self.dump_for = None
            dump.close()
        return math.inf if is_near else acts_at - near

    def _set_dump(
        self, dump: StackDumpTimer, timeline: Timeline | None, now: float, *, is_open: bool
    ) -> None:
        if timeline is None or timeline.limit - timeline.dump_at < LEAST_DUMP:
            dump.stop()
            return
        # From the grace period on the watchdog wakes every few milliseconds, and the instant at
        # which it is overdue can come between two wake-ups. Then stacks would be dumped although
        # the watchdog runs, for example with a cleanup that computes; and a dump while threads run
        # can crash the process. Pinned by test_acting_watchdog_is_not_overdue.
        overdue_at = timeline.overdue_at if now < timeline.grace_at else timeline.dump_at
        dump.set(timeline.dump_at - now, overdue_at - now, is_open=is_open)

    def ends(self, invocation: Timed) -> None:
        """Stop the dump and the nudge for an invocation that has ended.

        Thread: the handler's, with the invocation closed; or the watchdog's.
        """
        if self.dump_for is invocation:
            self.dump_for = None
            if self._dump is not None:
                self._dump.close()
        self.nudge_next(invocation)

    def nudge_next(self, invocation: Timed, since: float | None = None) -> None:
        """Postpone the nudge for a closed invocation, to when one that begins now would be due.

        If it may have ended earlier, `since` is an instant at which it had not.

        The next invocation has as much time, or rings. Without this, a watchdog that waits for a
        processor would leave the timer as it is, and the timer would nudge the invocation that runs
        by then. That might end a call in C code although the invocation still has all its time.
        Pinned by test_end_of_due_invocation_defers_the_nudge.

        Thread: the handler's; or the watchdog's.
        """
        if self._nudge_for is invocation:
            self._nudge_for = None
            span = invocation.timeline().grace_at
            if invocation.firing is None:
                span = invocation.acts_at() - invocation.start
            begins_at = self._clock.monotonic() if since is None else since
            self.next_at = min(self._others_at, begins_at + span)
            self.put_off(self.next_at)

    def put_off(self, acts_at: float) -> None:
        """Send no nudge before `acts_at`, because none is due; if infinite, nudge less often.

        Thread: any.
        """
        timer = self._timer
        if timer is not None and timer.available and self._nudge.is_ours():
            if acts_at == math.inf:
                timer.set(IDLE_PERIOD, IDLE_PERIOD)
            else:
                timer.set(acts_at - self._clock.monotonic() + LATE_BY, LATE_BY)

    def rest(self) -> None:
        """Stop the dump until the thread goes to sleep the next time.

        Either the thread runs, so that it can report itself, and a dump of running threads is not
        safe; or a timeout is over, but the thread has not seen that yet, because of a long garbage
        collection, for example.

        Thread: watchdog, or the handler's at the end of a timeout.
        """
        if self._dump is not None:
            self._dump.stop()
