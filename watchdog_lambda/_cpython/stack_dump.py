"""Dumps every thread's stack to the log if C code holds the GIL and does not release it.

Then no Python code can run, not even the watchdog. ``faulthandler`` writes its dump in a signal
handler in C, which needs no GIL, and a kernel timer sends the signal shortly before the hard
deadline. As with :mod:`.timers`, the watchdog sets the timer when it goes to sleep and stops it
when it wakes.

The dump must not report an invocation that is over, least of all when a frozen sandbox thaws, long
after every deadline. An invocation sets no timer itself, so there are two:

- One on the monotonic clock, set while its invocation is open. The end of that invocation stops it
  (:meth:`WatchdogThread.ends`), which costs one comparison, and a system call once for each time
  that the watchdog goes to sleep.
- One on the main thread's CPU time, for the invocations that come and go while the watchdog sleeps.
  CPU time stands still while the process idles or is frozen, and passes no faster than real time.
  The timer is set to an instant at which the watchdog is overdue, so it rings only if the watchdog
  could not run. It is too late for code that waited for a long time before, or that has much less
  than a whole processor.

The dump goes to file descriptor 2 in ``faulthandler``'s own format; we cannot write a line of our
own before it.
"""

from __future__ import annotations

from .timers import CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME, ThreadTimer, handler_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

STDERR = 2


class StackDumpTimer:
    """The dump's signal and its timers. ``available`` is False if there are no such timers.

    Thread: created by the main thread, then used by the thread that goes to sleep or wakes.
    """

    __slots__ = ("_by_clock", "_by_cpu", "_handler", "_handler_of", "_number", "available")

    def __init__(self, nudge: int | None, native_id: int) -> None:
        self.available = False
        self._number = spare_signal(nudge)
        self._by_clock = ThreadTimer(self._number, native_id, CLOCK_MONOTONIC)
        self._by_cpu = ThreadTimer(self._number, native_id, CLOCK_THREAD_CPUTIME)
        if self._number is None or not (self._by_clock.available and self._by_cpu.available):
            return
        try:
            import faulthandler  # noqa: PLC0415 - preloaded; see _stacks
        except ImportError:
            return
        # Do not use dump_traceback_later(): a process has only one, test runners use it, and each
        # call starts a thread.
        faulthandler.register(self._number, file=STDERR, all_threads=True, chain=False)
        self._handler_of = handler_addresses()
        self._handler = self._handler_of(self._number)
        self.available = True

    def set(self, seconds: float, overdue_in: float, *, is_open: bool) -> None:
        """Dump the stacks in `seconds`, for an invocation that `is_open`, or for the next ones.

        The watchdog is overdue in `overdue_in` seconds, which count the main thread's CPU time.
        Nothing is set if `seconds` is past: the process was not killed, so no dump is needed.
        """
        if not self.available:
            return
        if seconds <= 0 or not self._is_ours():
            self.stop()
            return
        self._by_cpu.set(overdue_in, 0.0)
        if is_open:
            self._by_clock.set(seconds, 0.0)
        else:
            self._by_clock.stop()

    def _is_ours(self) -> bool:
        """Return whether the signal still has faulthandler's handler.

        Only the kernel knows: Python reports SIG_DFL for faulthandler's handler. Code that stores
        the result of :func:`signal.getsignal`, takes the signal for itself and later restores the
        stored value therefore leaves the default action behind, which kills the process.
        """
        return self._handler_of(self._number or 0) == self._handler

    def close(self) -> None:
        """Stop the timer of the invocation that has ended."""
        if self.available:
            self._by_clock.stop()

    def stop(self) -> None:
        """Stop both timers. Does nothing if none is set."""
        if self.available:
            self._by_clock.stop()
            self._by_cpu.stop()


reserved: set[int] = set()
"""Signals that this package has taken permanently. Python cannot tell: it reports SIG_DFL for
faulthandler's handlers."""


def spare_signal(nudge: int | None = None) -> int | None:
    """Find an unused signal. Start at the top, because other code starts at the bottom."""
    for number in range(signal.SIGRTMAX, signal.SIGRTMIN - 1, -1):
        if number in reserved or number == nudge:
            continue
        if signal.getsignal(number) is signal.SIG_DFL:
            return number
    return None
