"""Decides when to sever a wait that no nudge interrupts, between the nudges and last call.

:mod:`watchdog_lambda._cpython.severing` explains how, and why nothing else can be cut.

Thread: watchdog.
"""

from __future__ import annotations

import math

from watchdog_lambda._cpython import severing, syscalls
from watchdog_lambda._cpython.stacks import frame_of

from .cadence import LONGEST_WAIT, QUICK
from .clock import SystemClock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchdog_lambda._cpython.severing import Wait

    from .cadence import Cadence
    from .invocation import Firing

AFTER = 0.4
"""Seconds of nudges before anything is severed. What they can interrupt, they have by then."""

SHARE = 1 / 3
"""AFTER is never more than this share of the time until last call: cleanups need the rest."""

MOST = 20
"""The most waits to sever in one invocation: a client may reconnect endlessly."""

spared: set[str] = set()
"""The peers whose connections are never cut: the Runtime API's address."""


class Severing:
    """The severed waits of one timeout, and the one that may be next."""

    __slots__ = ("_cadence", "_due_at", "_firing", "_is_on", "_wait")

    def __init__(self, firing: Firing, cadence: Cadence) -> None:
        self._firing = firing
        self._cadence = cadence
        # Not for a block that has reached its limit: there is no record that could mention it.
        is_timeout = firing.timeline.last_call_at < math.inf
        self._is_on = is_timeout and firing.invocation.plan.settings.sever
        self._due_at: float | None = None
        self._wait: Wait | None = None

    def step(self, now: float) -> None:
        """Hold what the thread waits for, or end what is held.

        Call this before each nudge. What is held before one nudge is ended before the next, if the
        thread has restarted its wait in between.
        """
        if self._due_at is None:
            left = self._firing.timeline.last_call_at - now
            self._due_at = now + min(AFTER, max(0.0, left) * SHARE)
        if not self._is_on or now < self._due_at or len(self._firing.severed) >= MOST:
            return
        wait, self._wait = self._wait, None
        if self._cadence.unheard < QUICK or (wait is not None and self._ends(wait)):
            return
        self._wait = self._hold()

    def _hold(self) -> Wait | None:
        native_id = self._firing.services.nudge.native_id
        blocked = syscalls.blocked_in(native_id)
        limit = None if blocked is None else blocked.limit()
        if limit is not None and limit <= LONGEST_WAIT and not self._cadence.has_waited:
            return None  # the call may still check for signals by itself
        return severing.hold(
            native_id,
            self._cadence.unheard,
            since=SystemClock.since_boot() - self._firing.elapsed(),
            spared=spared,
        )

    def _ends(self, wait: Wait) -> bool:
        """End the wait, if it has been restarted since it was held."""
        firing = self._firing
        try:
            if self._cadence.unheard <= wait.unheard or not wait.has_begun_anew():
                return False
            frame = frame_of(firing.thread_id)
            place = None if frame is None else (frame.f_code, frame.f_lasti)
            del frame
            # Do this under the lock. Otherwise the handler could settle in between, and the next
            # invocation would find its connection cut. Pinned by
            # test_nothing_is_severed_after_settle.
            with firing.lock:
                is_right = firing.invocation.is_open and wait.is_unmoved()
                names = wait.end() if is_right else []
            if not names:
                return False
            firing.severed += names
            if place is not None:
                # An error that the call raises there counts as this timeout.
                firing.policy.severed_at.add(place)
            return True
        finally:
            wait.close()
