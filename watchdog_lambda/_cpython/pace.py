"""Shortens the wait for the GIL while a timeout is in progress.

A thread that runs Python code releases the GIL one switch interval after another thread has asked
for it: 5 ms, unless the program has set its own. A timeout needs several such switches between the
watchdog, its hooks and a handler that computes, and their time is lost for the handler's cleanup.
So the interval is shortened during a timeout, and the program's own is restored afterwards.
"""

from __future__ import annotations

import sys

QUICK = 0.0005
"""Seconds. With a handler that computes and one hook, the median from deadline to interrupt was
26 ms at the default, 24 ms at 1 ms, 8 ms at this, and no less below it (3.11, a busy machine)."""


class Pace:
    """The switch interval of this process.

    Thread: the watchdog's. The main thread only quickens, and then rings the watchdog, which
    relaxes; in a child of fork it relaxes.
    """

    __slots__ = ("_usual",)

    def __init__(self) -> None:
        self._usual: float | None = None  # the program's own, while it is not in force

    def quicken(self) -> None:
        """Let waiting threads get the GIL quickly."""
        interval = sys.getswitchinterval()
        if self._usual is None and interval > QUICK:
            self._usual = interval
            sys.setswitchinterval(QUICK)

    def relax(self) -> None:
        """Restore the program's own interval, unless the program has set another in between."""
        if self._usual is not None:
            if sys.getswitchinterval() == QUICK:
                sys.setswitchinterval(self._usual)
            self._usual = None
