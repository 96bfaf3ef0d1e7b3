"""How soon a thread that waits for the GIL gets it: sooner while a timeout is under way.

A thread of Python code gives the GIL up one switch interval after another has asked for it: 5 ms,
unless the program has set its own. A timeout takes several such hand-overs, between the watchdog,
its hooks and a handler that computes; and one that has gone wrong takes them out of the time that
the handler's cleanup has. So the interval is short meanwhile, and the program's own afterwards.
"""

from __future__ import annotations

import sys

QUICK = 0.0005
"""Seconds. With a handler that computes and one hook, the median from deadline to interrupt was
26 ms at the default, 24 ms at 1 ms, 8 ms at this, no less below it (3.11, a busy machine)."""


class Pace:
    """The switch interval of this process.

    Thread: one, the watchdog's; and the main one of a child of fork.
    """

    __slots__ = ("_usual",)

    def __init__(self) -> None:
        self._usual: float | None = None  # the program's own, while it is not in force

    def quicken(self) -> None:
        """Have waiting threads get the GIL soon."""
        interval = sys.getswitchinterval()
        if self._usual is None and interval > QUICK:
            self._usual = interval
            sys.setswitchinterval(QUICK)

    def relax(self) -> None:
        """Put the program's own interval back, unless the program has set another meanwhile."""
        if self._usual is not None:
            if sys.getswitchinterval() == QUICK:
                sys.setswitchinterval(self._usual)
            self._usual = None
