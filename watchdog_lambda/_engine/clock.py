"""The only place that reads the time, and the arithmetic of an invocation's timeline.

Lambda gives its deadline as wall-clock milliseconds. It is converted once to the monotonic clock,
when the invocation starts, so that the watchdog fires neither early nor late if the wall clock is
set. The start and the watchdog's next look are instants on the monotonic clock; everything else
about an invocation is in seconds since its start.
"""

from __future__ import annotations

import os
import time
from _thread import TIMEOUT_MAX, allocate_lock

from watchdog_lambda._config import GRACE_SHARE, HOOK_SHARE, LAST_CALL_SHARE, budget_within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Clock(Protocol):
        """Time as the watchdog sees it; tests have their own."""

        def monotonic(self) -> float: ...
        def thread_time(self) -> float: ...
        def pause(self, seconds: float, /) -> None: ...
        def make_alarm(self) -> Alarm: ...

    class Alarm(Protocol):
        """The object that the watchdog thread sleeps on."""

        def ring(self) -> None: ...
        def wait(self, seconds: float) -> bool: ...


DUMP_SHARE = 0.25
"""The share of last call that is left when faulthandler dumps the stacks of a stuck process."""

STAGE_SHARE = 0.75
"""No stage begins in the first quarter of an invocation, however large its ``before``."""

cpu_time = time.process_time
"""The CPU seconds of all threads of this process, across restarts."""

wall = time.time
"""The wall clock's seconds, in which Lambda gives its deadlines."""


class SystemAlarm:
    """A wake-up that is not lost if it precedes the wait. Any thread may ring; one thread waits."""

    __slots__ = ("_lock", "_longest")

    def __init__(self, longest: float) -> None:
        # A plain lock, held: ringing releases it, waiting acquires it again. threading.Event does
        # the same with a Condition, which a signal handler must not re-enter.
        self._lock = allocate_lock()
        self._lock.acquire()
        self._longest = longest

    def ring(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it has been rung already, and one wake-up is enough

    def wait(self, seconds: float) -> bool:
        """Wait until rung. Return whether `seconds` have passed instead."""
        return not self._lock.acquire(True, min(max(seconds, 0.0), self._longest))


class SystemClock:
    """The machine's monotonic clock."""

    monotonic = staticmethod(time.monotonic)
    thread_time = staticmethod(time.thread_time)
    pause = staticmethod(time.sleep)

    @staticmethod
    def since_boot() -> float:
        """Return the seconds since the machine's start, the unit of a process's start time."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @staticmethod
    def epoch_ms() -> int:
        """Return the wall clock's time, for data that leaves the process."""
        return int(time.time() * 1000)

    def make_alarm(self) -> SystemAlarm:
        return SystemAlarm(_longest_sleep())


def _longest_sleep() -> float:
    """Return how long one wait for a lock may take, in seconds.

    Before glibc 2.30 (Amazon Linux 2, with AWS's Python 3.11) a timed wait for a lock follows the
    wall clock. If that is set back, the watchdog would sleep past the deadline.
    """
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION") or ""
        version = tuple(map(int, name.split()[1].split(".")[:2]))
    except (IndexError, OSError, ValueError):
        return TIMEOUT_MAX  # not glibc
    return TIMEOUT_MAX if version >= (2, 30) else 1.0


class Stopwatch:
    """Seconds since an instant on the monotonic clock. Thread: any."""

    __slots__ = ("clock", "start")

    def __init__(self, clock: Clock, start: float) -> None:
        self.clock = clock
        self.start = start

    def elapsed(self) -> float:
        return self.clock.monotonic() - self.start


class Timeline:
    """When each thing is due in one invocation, in seconds since its start.

    For every limit and all valid settings,
    ``0 <= grace_at <= overdue_at <= last_call_at <= dump_at <= limit``, and hooks that use their
    whole budget end before last call. No two of these are equal, unless the settings ask for less
    than a microsecond.
    """

    __slots__ = (
        "dump_at",
        "grace_at",
        "grace_period",
        "hook_budget",
        "last_call_at",
        "limit",
        "overdue_at",
    )

    def __init__(
        self, limit: float, *, grace_period: float, hook_budget: float | None, last_call: float
    ) -> None:
        self.limit = limit  # the hard deadline
        self.grace_period = min(grace_period, limit * GRACE_SHARE)
        self.grace_at = limit - self.grace_period
        self.last_call_at = limit - min(last_call, self.grace_period * LAST_CALL_SHARE)
        # By then the watchdog would have woken long ago, if it could; see kernel_timers.
        self.overdue_at = (self.grace_at + self.last_call_at) / 2
        self.dump_at = limit - (limit - self.last_call_at) * DUMP_SHARE
        self.hook_budget = (
            self.grace_period * HOOK_SHARE
            if hook_budget is None
            else budget_within(self.grace_period, hook_budget, chosen_for=grace_period)
        )

    def wait_ends(self, landed_at: float) -> float:
        """Return when a cleanup that only waits is interrupted, after a landing at `landed_at`."""
        return (landed_at + self.last_call_at) / 2

    def stage_at(self, before: float) -> float:
        """Return when the stage begins that is `before` seconds before the hard deadline."""
        return self.limit - min(before, self.limit * STAGE_SHARE)
