"""How soon the handler's thread is nudged again.

About every 10 ms, since a single nudge can be lost. But some C code begins its wait anew when a
signal breaks it off, and looks at signals only when a whole wait has run out: psycopg after 100 ms,
gRPC after 200 ms. A nudge every 10 ms would keep it from ever looking. So where the first nudges
have not been heard, and the kernel says that the thread is in such a wait, it is left alone for as
long as that takes.

Nothing else is left alone. A nudge shortens a sleep of SQLite's between two tries for a lock, and
for code that runs it makes no difference.

Thread: watchdog.
"""

from __future__ import annotations

import math

from watchdog_lambda._cpython import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchdog_lambda._cpython.delivery import Nudge

NUDGE_PERIOD = 0.01
"""Seconds between nudges. A single one is lost in up to 39 % of the bad windows: it strikes
just before the system call that it should have ended."""

QUICK = 5
"""Nudges in a row that go unheard before the thread is looked at. Code that looks at signals at all
has heard one of them."""

LONGEST_WAIT = 1.0
"""Seconds. A longer wait than this leaves too little of a grace period after it."""

MARGIN = 0.025
"""Seconds beyond a wait's limit, for the thread to get a processor and the GIL."""

UNTOLD = (0.125, 0.25)
"""Seconds between nudges, in turn, where the kernel does not tell what the thread waits in."""


class Cadence:
    """When the nudges of one timeout come."""

    __slots__ = ("_heard", "_nudge", "has_waited", "quiet_until", "unheard")

    def __init__(self, nudge: Nudge) -> None:
        self._nudge = nudge
        self._heard: int = -1
        self.unheard = 0
        """Nudges sent in a row that nobody has heard."""
        self.quiet_until = -math.inf
        """No nudge is sent before this instant, even if the watchdog is woken earlier."""
        self.has_waited = False
        """Whether a wait has been left to run out, and nobody has heard a nudge all the same."""

    def is_quiet(self, now: float) -> bool:
        """Whether a nudge would begin a wait anew that is about to run out."""
        return now < self.quiet_until and self._nudge.heard == self._heard

    def send(self, now: float, last_call_at: float) -> float:
        """Nudge; seconds until the next one."""
        nudge = self._nudge
        # Read before it is sent: it may be heard before this line is over.
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
