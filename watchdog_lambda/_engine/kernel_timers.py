"""What the kernel does should the watchdog thread not wake in time, because C code holds the GIL.

First it nudges, a little beyond the thread's own wake-up (:mod:`.timers`): C code that looks at
signals is interrupted by that. At last it has every thread's stack written (:mod:`.stack_dump`).

Both are set by whoever goes to sleep, which is the thread, or an invocation that rings it: its
handler may hold the GIL from the first instruction on, and the thread never come to set them. Both
hold the GIL, so there is no lock.

    handler's thread, at its end  whoever goes to sleep
    is_open = False               dump_for = invocation; set the timer
    read dump_for               read is_open

Whichever is first, nobody speaks for an invocation that has ended: a sandbox is frozen between
invocations, and all timers ring when it thaws. Pinned by
``test_nobody_speaks_for_an_invocation_that_has_ended``.
"""

from __future__ import annotations

import atexit

from watchdog_lambda._cpython.stack_dump import StackDumpTimer
from watchdog_lambda._cpython.timers import ThreadTimer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from watchdog_lambda._cpython.delivery import Nudge

    from .clock import Clock, Timeline
    from .invocation import Invocation

LATE_BY = 0.02
"""Seconds that the thread may come late before the kernel's timer nudges in its place."""


class KernelTimers:
    """The kernel's timers of this process; it has none before :meth:`equip`."""

    __slots__ = ("_clock", "_nudge", "_spoken", "_timer", "_words", "dump_for")

    def __init__(self, clock: Clock, nudge: Nudge) -> None:
        self._clock = clock
        self._nudge = nudge
        self._timer: ThreadTimer | None = None
        self._words: StackDumpTimer | None = None
        # Of whom the last words are. Kept when it has ended, for those that come and go meanwhile.
        self._spoken: Timeline | None = None
        # The open invocation that they are for: its end takes them back. Read on the hot path.
        self.dump_for: Invocation | None = None

    def equip(self) -> None:
        """Have timers, if there are none yet. Thread: main, once the nudge is installed."""
        # By the main thread only, so once: a second timer would go on with nobody to stop it.
        if self._timer is None:
            timer = ThreadTimer(self._nudge.number, self._nudge.native_id)
            words = StackDumpTimer(self._nudge.number, self._nudge.native_id)
            # A real-time signal that comes when the interpreter has put the default handlers back
            # would end the process.
            atexit.register(timer.stop)
            atexit.register(words.stop)
            # At the end: a signal's handler of the user's can break this off, and it is done anew.
            # The timer last, for it is what is asked for above.
            self._words, self._timer = words, timer

    def forget(self) -> None:
        """In a child of fork: the kernel does not hand timers on to it."""
        self._timer = self._words = self.dump_for = None

    def choose(self, invocations: Iterable[Invocation]) -> None:
        """Speak for that one of the invocations whose time for it comes first."""
        spoken: Timeline | None = None
        dump_for: Invocation | None = None
        for invocation in invocations:
            if invocation.firing is None or not invocation.firing.is_reported:
                timeline = invocation.timeline()
                if spoken is None or timeline.last_words_at < spoken.last_words_at:
                    spoken, dump_for = timeline, invocation
        self._spoken, self.dump_for = spoken, dump_for

    def keep(self) -> None:
        """Speak as before, but for nobody who is there now."""
        self.dump_for = None

    def set(self, wake_at: float) -> None:
        """Have the kernel act, should the thread not wake then. Thread: who goes to sleep."""
        timer, words = self._timer, self._words
        if timer is None or words is None:
            return
        now = self._clock.monotonic()
        if timer.available:
            if self._nudge.is_ours():
                timer.set(wake_at - now + LATE_BY, LATE_BY)
            else:
                timer.stop()  # the kernel would send it to whoever has taken it over
        dump_for = self.dump_for
        if self._spoken is None:
            words.stop()
        else:
            words.set(self._spoken, now, is_open=dump_for is not None)
        if dump_for is not None and not dump_for.is_open:
            # It has ended between our store and the timer's setting, and taken back what was not
            # set yet.
            self.dump_for = None
            words.close()

    def ends(self, invocation: Invocation) -> None:
        """Have no last words spoken for an invocation that is over, whatever its thread does next.

        Thread: the handler's, with the invocation closed; or the watchdog's.
        """
        if self.dump_for is invocation:
            self.dump_for = None
            if self._words is not None:
                self._words.close()

    def rest(self) -> None:
        """Have no last words spoken until the thread goes to sleep the next time.

        It runs, so it can speak for itself, and ``faulthandler`` may only look at threads that do
        not; or a timeout is over, and the thread has yet to see it, which a long garbage collection
        can hold up.

        Thread: watchdog, or the handler's at the end of a timeout.
        """
        if self._words is not None:
            self._words.stop()
