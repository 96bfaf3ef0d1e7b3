"""Every thread's stack in the log, although C code holds the GIL and will not let go of it.

Nothing in Python can act then, the watchdog included. ``faulthandler``'s dump is written by a
signal's handler in C, which needs no GIL; a kernel timer sends the signal shortly before the hard
deadline. As with :mod:`._timer`, the watchdog sets it whenever it goes to sleep, and takes it back
when it wakes: an invocation pays nothing, and as long as the watchdog runs nothing is written.

The dump goes to file descriptor 2 in ``faulthandler``'s own format; no line of ours can stand
before it.
"""

from __future__ import annotations

import signal

from ._timer import ThreadTimer

STDERR = 2


class LastWords:
    """The dump's signal and its timer. ``available`` is False where there is no such timer.

    Thread: made by the main one, then used by whoever goes to sleep or wakes.
    """

    __slots__ = ("_number", "_timer", "available")

    def __init__(self, nudge: int | None, native_id: int) -> None:
        self.available = False
        self._number = _spare(nudge)
        self._timer = ThreadTimer(self._number, native_id)
        if self._number is None or not self._timer.available:
            return
        try:
            import faulthandler  # noqa: PLC0415 - preloaded; see _stacks
        except ImportError:
            return

        # Not dump_traceback_later(): there is one of those in a process, test runners use it, and
        # each call starts a thread.
        faulthandler.register(self._number, file=STDERR, all_threads=True, chain=False)
        self.available = True

    def set(self, seconds: float) -> None:
        """Have them written in `seconds`; in infinity, or a past that nobody has ended: never."""
        if not self.available:
            return
        # Somebody may have taken the signal for themselves. Python does not know of faulthandler's
        # handlers: where nobody else has come it still says SIG_DFL.
        if seconds <= 0 or signal.getsignal(self._number or 0) is not signal.SIG_DFL:
            self.stop()
        else:
            self._timer.set(seconds, 0.0)

    def stop(self) -> None:
        """Write nothing; nothing to do, if that was not set."""
        if self.available:
            self._timer.stop()


def _spare(nudge: int | None) -> int | None:
    """A signal that nobody uses; from the top, as those who want one count from below."""
    for number in range(signal.SIGRTMAX, signal.SIGRTMIN - 1, -1):
        if number != nudge and signal.getsignal(number) is signal.SIG_DFL:
            return number
    return None
