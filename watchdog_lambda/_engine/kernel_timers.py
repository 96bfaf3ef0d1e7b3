"""What the kernel does should the watchdog thread not wake in time, because C code holds the GIL.

First it nudges, a little beyond the instant at which the thread must act (:mod:`.timers`), though
not where it wakes to take a sample: a handler that is in time is never nudged. C code that looks at
signals is interrupted by that. Later it has every thread's stack written (:mod:`.stack_dump`).

Both are set before the thread goes to sleep: by the thread, or by an invocation that rings it, for
its handler may hold the GIL from the first instruction on, and the thread never come to set them.
Both hold the GIL, so there is no lock.

    handler's thread, at its end  before the thread sleeps
    is_open = False               dump_for = invocation; set the timer
    read dump_for                 read is_open

Whichever is first, no stacks are dumped for an invocation that has ended: a sandbox is frozen
between invocations, and all timers ring when it thaws. Pinned by
``test_nobody_speaks_for_an_invocation_that_has_ended``.
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
"""Seconds that the thread may come late before the kernel's timer nudges in its place. A handler
that computes then stands still until the thread has done what is due."""

STALE_BY = 0.02
"""The same where it is not known who runs by then, and whoever does may not be due."""

NEAR = 0.05
"""Seconds before the instant at which the thread looks once more whether that stands. So nobody who
is not due is nudged, unless the thread has not had the GIL for as long."""

LEAST_DUMP = 0.01
"""Seconds that a dump must leave to the hard deadline. With less (a function with less than a
second) the watchdog's own work can take longer, and a dump among threads that run is not safe."""


class KernelTimers:
    """The kernel's timers of this process; it has none before :meth:`equip`."""

    __slots__ = (
        "_clock",
        "_dump",
        "_nudge",
        "_nudge_for",
        "_others_at",
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
        # Whose deadline the dump is timed by. Kept when that invocation has ended, for those that
        # come and go meanwhile.
        self._timeline: Timeline | None = None
        self._start = 0.0
        # The open invocation that the dump is for: its end takes it back.
        self.dump_for: Timed | None = None
        # The one that the nudge is for, whose end puts it off, and when the next one acts.
        self._nudge_for: Timed | None = None
        self._others_at = math.inf
        # When it is put off to, until the thread has looked.
        self.next_at = -math.inf

    def equip(self) -> None:
        """Have timers, if there are none yet. Thread: main, once the nudge is installed."""
        # By the main thread only, so once: a second timer would go on with nobody to stop it.
        if self._timer is None:
            timer = ThreadTimer(self._nudge.number, self._nudge.native_id)
            dump = StackDumpTimer(self._nudge.number, self._nudge.native_id)
            # A real-time signal that comes when the interpreter has put the default handlers back
            # would end the process.
            atexit.register(timer.stop)
            atexit.register(dump.stop)
            # Store them at the end: a signal handler of the user can break this off, and then it is
            # done anew. The timer last, for it is what is asked for above.
            self._dump, self._timer = dump, timer

    def forget(self) -> None:
        """In a child of fork: the kernel does not hand timers on to it."""
        self._timer = self._dump = None
        self.keep()

    def choose(self, invocations: Iterable[Timed]) -> None:
        """Time the dump by that one of the invocations whose deadline comes first.

        And let the nudge be for the one that is acted on first.
        """
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
        """Keep the time of the dump, for invocations that are still to come."""
        self.dump_for = self._nudge_for = None
        self.next_at = -math.inf

    def set(self, acts_at: float, stale_at: float = math.inf) -> float:
        """Have the kernel act if the thread does not wake then.

        `stale_at` is the earliest instant of an invocation that is still to begin. Returns when the
        thread is to look once more whether `acts_at` stands; infinity if that is near.

        Thread: the one that is about to sleep.
        """
        timer, dump = self._timer, self._dump
        if timer is None or dump is None:
            return acts_at
        now = self._clock.monotonic()
        is_near = acts_at - now <= NEAR
        if timer.available:
            if self._nudge.is_ours():
                late_by = LATE_BY if acts_at <= stale_at else STALE_BY
                timer.set(min(acts_at, stale_at) - now + late_by, late_by)
            else:
                timer.stop()  # the kernel would send it to the signal's new owner
        # The one that this is for may have ended since it was looked at.
        if self._nudge_for is not None and not self._nudge_for.is_open:
            self.nudge_next(self._nudge_for)
        elif self.next_at > -math.inf:
            self.put_off(self.next_at)
        dump_for = self.dump_for
        self._set_dump(dump, self._timeline, now - self._start, is_open=dump_for is not None)
        if dump_for is not None and not dump_for.is_open:
            # It has ended between our store and the timer's setting, and taken back what was not
            # set yet.
            self.dump_for = None
            dump.close()
        return math.inf if is_near else acts_at - NEAR

    def _set_dump(
        self, dump: StackDumpTimer, timeline: Timeline | None, now: float, *, is_open: bool
    ) -> None:
        if timeline is None or timeline.limit - timeline.dump_at < LEAST_DUMP:
            dump.stop()
            return
        # From the grace period on the watchdog wakes every few milliseconds, and the instant at
        # which it is overdue can come between two of them: stacks would be dumped beside a watchdog
        # that runs well, as with a cleanup that computes. And a dump among threads that run can
        # crash the process. Pinned by test_a_watchdog_that_acts_is_not_overdue.
        overdue_at = timeline.overdue_at if now < timeline.grace_at else timeline.dump_at
        dump.set(timeline.dump_at - now, overdue_at - now, is_open=is_open)

    def ends(self, invocation: Timed) -> None:
        """Dump nothing for an invocation that is over, and nudge nobody for it.

        Thread: the handler's, with the invocation closed; or the watchdog's.
        """
        if self.dump_for is invocation:
            self.dump_for = None
            if self._dump is not None:
                self._dump.close()
        self.nudge_next(invocation)

    def nudge_next(self, invocation: Timed) -> None:
        """Nudge nobody for one that is closed, until the next one is due that begins now.

        That has as much time, or rings. Otherwise a thread that waits for a processor leaves the
        timer as it is, and that nudges whoever runs by then, which may end a call in C code of one
        that has all its time. Pinned by test_the_end_of_who_is_due_puts_the_nudge_off.

        Thread: the handler's; or the watchdog's.
        """
        if self._nudge_for is invocation:
            self._nudge_for = None
            span = invocation.timeline().grace_at
            if invocation.firing is None:
                span = invocation.acts_at() - invocation.start
            self.next_at = min(self._others_at, self._clock.monotonic() + span)
            self.put_off(self.next_at)

    def put_off(self, acts_at: float) -> None:
        """Nudge nobody before that instant, for nobody is due; where it is infinite, less often.

        Thread: any.
        """
        timer = self._timer
        if timer is not None and timer.available and self._nudge.is_ours():
            after = 0.0 if acts_at == math.inf else acts_at - self._clock.monotonic()
            timer.set(after + STALE_BY, STALE_BY)

    def rest(self) -> None:
        """Dump nothing until the thread goes to sleep the next time.

        It runs, so it can report itself, and ``faulthandler`` may only look at threads that do not;
        or a timeout is over, and the thread has yet to see it, which a long garbage collection can
        hold up.

        Thread: watchdog, or the handler's at the end of a timeout.
        """
        if self._dump is not None:
            self._dump.stop()
