"""Around a fork, in the parent: the watchdog thread ends before it and is started again after it.

From 3.12 on ``os.fork`` warns where the process has a second thread, by the kernel's count, and
that must not be ours. The thread is only a loop around state that outlives it, so it may end
between any two looks; meanwhile the kernel's timer is set, and its nudge would start the thread.

Where other threads run as well the warning comes anyway, and ours is left alone. So it is where it
does not come to its end in time, and where forks follow each other so closely that every interrupt
would meet them. It looks at the invocations at least once before it ends, or a handler that does
nothing but fork would never be seen to be late.

Who is first when a request to end is seen and taken back at once? Each looks and stores without a
check point in between:

    watchdog thread               thread that has forked
    if is_wanted:                 if is_wanted:
        is_wanted = False             is_wanted = False, and the thread lives on
        the thread counts as gone else: it is gone, start it

When CPython counts: 3.12 before the parent's hooks; 3.13.0 to 3.13.9 and 3.14.0 after them
(gh-137109), later ones before them again. So on the main thread the start is put off until bytecode
goes on behind ``os.fork()``.
"""

from __future__ import annotations

import math
import os
import sys
from _thread import get_ident, interrupt_main
from functools import partial

from .clock import SystemClock
from .invocation import active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from .watchdog import WatchdogThread

PATIENCE = 0.02
"""Seconds that a fork waits for the thread's end at the most; a tenth of a millisecond is usual."""

_LOOK_AGAIN = 0.00002

_STAND_BY = 0.05
"""Seconds for which the thread is left alone once an interrupt has met a fork in the making."""


class StepAside:
    """Has the watchdog thread out of the way while the process forks."""

    __slots__ = ("_met_at", "_signals", "_watchdog", "is_wanted")

    def __init__(self, watchdog: WatchdogThread) -> None:
        self._watchdog = watchdog
        self._signals: list[int] = []
        self._met_at = -math.inf
        self.is_wanted = False

    def register(self) -> None:
        """Take part in this process's forks from now on; once."""
        if sys.version_info >= (3, 12):  # pragma: no cover - before, they warn of nothing
            os.register_at_fork(before=self.before, after_in_parent=self.after)
            # C code only: in any Python function, a hook's own among them, the signal would be
            # handled at once, before 3.13 counts.
            os.register_at_fork(after_in_parent=partial(sorted, self._signals, key=interrupt_main))

    def leaves(self) -> bool:
        """Whether the thread must end now; it then counts as gone. Thread: watchdog."""
        if not self.is_wanted:
            return False
        self.is_wanted = False
        self._watchdog._thread_id = None
        # As at the start: the next invocation rings, whatever becomes of the fork.
        self._watchdog.wake_at = math.inf
        return True

    def note(self, frame: FrameType) -> None:
        """A nudge has met this frame of ours, and landed nothing. Thread: main."""
        if frame.f_code.co_filename == __file__:
            self._met_at = SystemClock.monotonic()

    def before(self) -> None:
        """Have the thread end, and wait for it. Thread: any, about to fork."""
        self._signals.clear()
        watchdog = self._watchdog
        now = SystemClock.monotonic()
        if now < self._met_at + _STAND_BY or _threads() != 2:
            return
        # Only a thread that is there is asked, or the request would be taken for one that lives on.
        if self.is_wanted or watchdog._thread_id is None:
            return
        self.is_wanted = True
        watchdog._alarm.ring()
        until = now + PATIENCE
        while _threads() > 1 and SystemClock.monotonic() < until:
            if not (self.is_wanted or self._is_gone()):
                return  # another thread has forked meanwhile, and has it back
            SystemClock.pause(_LOOK_AGAIN)

    def after(self) -> None:
        """Have the thread back, if it is gone. Thread: any, in the parent, child or no child."""
        if self.is_wanted:
            self.is_wanted = False
            return
        if not (self._is_gone() and active):
            return  # with nothing to watch, the next invocation starts it
        watchdog = self._watchdog
        number = watchdog.nudge.number
        if number is not None and watchdog.nudge.reaches(get_ident()):
            self._signals.append(number)
        else:
            watchdog._start()

    def _is_gone(self) -> bool:
        return self._watchdog._thread_id is None


def _threads() -> int:
    """The kernel's count; 0 without /proc, where CPython does not see our thread either."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0
