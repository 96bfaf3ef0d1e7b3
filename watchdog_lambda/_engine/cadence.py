"""Decides how soon the handler's thread is nudged again.

A nudge is sent about every 10 ms, because a single one can be lost. But some C code restarts its
wait when a signal interrupts it, and checks for signals only when a whole wait has elapsed: psycopg
after 100 ms, gRPC after 200 ms. A nudge every 10 ms would keep it from ever checking. So if the
first nudges have had no effect, and the kernel says that the thread is in such a wait, no nudge is
sent until the wait has elapsed.

All other code keeps being nudged. A nudge shortens SQLite's sleep between two attempts to get a
lock, and makes no difference to running code.

Thread: watchdog.
"""

from __future__ import annotations

import math

from watchdog_lambda._cpython import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchdog_lambda._cpython.delivery import Nudge

NUDGE_PERIOD = 0.01
"""Seconds between nudges. A single one is lost in up to 39 % of the bad windows: it arrives just
before the system call that it should have ended."""

QUICK = 5
"""How many nudges in a row must have no effect before the thread's wait is examined. Any code that
checks for signals has noticed one of them."""

LONGEST_WAIT = 1.0
"""Seconds. A longer wait would leave too little of the grace period."""

MARGIN = 0.025
"""Seconds after a wait's limit, for the thread to get a processor and the GIL."""

UNTOLD = (0.125, 0.25)
"""Seconds between nudges, alternately, if the kernel does not tell what the thread waits in."""


class Cadence:
    """Decides when the nudges of one timeout are sent."""

    __slots__ = ("_heard", "_nudge", "has_waited", "quiet_until", "unheard")

    def __init__(self, nudge: Nudge) -> None:
        self._nudge = nudge
        self._heard: int = -1
        self.unheard = 0
        """How many nudges in a row have had no effect."""
        self.quiet_until = -math.inf
        """No nudge is sent before this instant, even if the watchdog is woken earlier."""
        self.has_waited = False
        """Whether a wait was allowed to elapse, and the nudge after it still had no effect."""

    def is_quiet(self, now: float) -> bool:
        """Return whether a nudge would restart a wait that is about to elapse."""
        return now < self.quiet_until and self._nudge.heard == self._heard

    def send(self, now: float, last_call_at: float) -> float:
        """Nudge. Return the seconds until the next one."""
        nudge = self._nudge
        # Read the count before sending: the nudge may arrive at once.
        heard = nudge.heard
        if heard != self._heard:
            self._heard, self.unheard, self.has_waited = heard, 0, False
        elif self.quiet_until > -math.inf:
            self.has_waited = True
        nudge.send()
        self.unheard += 1
        pause = self._pause(now, last_call_at) if self.unheard >= QUICK else NUDGE_PERIOD
        self.quiet_until = now + pause if pause > NUDGE_PERIOD else -math.inf
        return pause

    def _pause(self, now: float, last_call_at: float) -> float:
        if not syscalls.is_told():
            return UNTOLD[self.unheard % 2] if now < last_call_at else NUDGE_PERIOD
        blocked = syscalls.blocked_in(self._nudge.native_id)
        limit = None if blocked is None else blocked.limit()
        if limit is None or limit > LONGEST_WAIT or now + limit >= last_call_at:
            return NUDGE_PERIOD
        return max(limit + MARGIN, NUDGE_PERIOD)
