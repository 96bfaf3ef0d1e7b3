"""Every thread's stack in the log, although C code holds the GIL and will not let go of it.

Nothing in Python can act then, the watchdog included. ``faulthandler``'s dump is written by a
signal's handler in C, which needs no GIL; a kernel timer sends the signal shortly before the hard
deadline. As with :mod:`.timers`, the watchdog sets it when it goes to sleep and takes it back when
it wakes.

It must not speak of an invocation that is over, least of all when a frozen sandbox thaws, far
beyond every deadline. An invocation sets no timer itself, so there are two:

- One on the monotonic clock, set while the invocation that it is for is open: its end takes it back
  (:meth:`WatchdogThread.ends`), which costs one comparison, and a system call once for each time
  that the watchdog goes to sleep.
- One on the main thread's processor time, for the invocations that come and go while the watchdog
  sleeps. It counts nothing while the process idles or is frozen, and no faster than time passes.
  Set to an instant at which the watchdog is overdue, it rings only if that could not run. It comes
  too late for code that waited for long before, or has much less than a whole processor.

The dump goes to file descriptor 2 in ``faulthandler``'s own format; no line of ours can stand
before it.
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
    """The dump's signal and its timers. ``available`` is False where there are no such timers.

    Thread: made by the main one, then used by the thread that goes to sleep or wakes.
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
        # Not dump_traceback_later(): there is one of those in a process, test runners use it, and
        # each call starts a thread.
        faulthandler.register(self._number, file=STDERR, all_threads=True, chain=False)
        self._handler_of = handler_addresses()
        self._handler = self._handler_of(self._number)
        self.available = True

    def set(self, seconds: float, overdue_in: float, *, is_open: bool) -> None:
        """Have the stacks written in `seconds`, for an invocation that `is_open` or the next ones.

        The watchdog is overdue in `overdue_in` seconds; those count the main thread's processor
        time. Nothing is set if the time is past: nobody has ended the process, so nobody needs it.
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
        """Whether the signal still has faulthandler's handler.

        Asked of the kernel: Python says SIG_DFL while faulthandler has it. So code that notes what
        :func:`signal.getsignal` says, takes the signal for itself and puts back what it has noted,
        leaves the default action behind, which ends the process.
        """
        return self._handler_of(self._number or 0) == self._handler

    def close(self) -> None:
        """The invocation that they were for is over."""
        if self.available:
            self._by_clock.stop()

    def stop(self) -> None:
        """Write nothing; nothing to do, if nothing was set."""
        if self.available:
            self._by_clock.stop()
            self._by_cpu.stop()


reserved: set[int] = set()
"""Signals that this package has taken for good. Python does not know of faulthandler's handlers,
and says SIG_DFL."""


def spare_signal(nudge: int | None = None) -> int | None:
    """A signal that is not in use; from the top, because other code counts from below."""
    for number in range(signal.SIGRTMAX, signal.SIGRTMIN - 1, -1):
        if number in reserved or number == nudge:
            continue
        if signal.getsignal(number) is signal.SIG_DFL:
            return number
    return None
