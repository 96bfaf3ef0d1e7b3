"""The only time reads, and the arithmetic of one invocation's timeline.

Lambda gives its deadline as wall-clock milliseconds. It is converted once to the monotonic clock,
when the invocation starts, so that a step of the wall clock can neither fire early nor late. Start
and the watchdog's next look are instants on that clock; everything else about an invocation is in
seconds since its start.
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
        """Time as the watchdog sees it; tests control theirs."""

        def monotonic(self) -> float: ...
        def pause(self, seconds: float, /) -> None: ...
        def make_alarm(self) -> Alarm: ...

    class Alarm(Protocol):
        """What the watchdog thread sleeps on."""

        def ring(self) -> None: ...
        def wait(self, seconds: float) -> bool: ...


DUMP_SHARE = 0.25
"""So much of last call is left when faulthandler dumps the stacks of a process that cannot act."""

STAGE_SHARE = 0.75
"""No stage begins in the first quarter of an invocation, however large its ``before``."""

cpu_time = time.process_time
"""Seconds that all threads of this process have had a processor for, over restarts."""

wall = time.time
"""Seconds of the wall clock: Lambda's deadlines are of that."""


class SystemAlarm:
    """A wake-up that is kept if it comes before the wait; any thread may ring, one thread waits."""

    __slots__ = ("_lock", "_longest")

    def __init__(self, longest: float) -> None:
        # A bare lock, taken: ringing releases it, waiting takes it again. threading.Event would do
        # the same with a Condition, which a signal handler must not re-enter.
        self._lock = allocate_lock()
        self._lock.acquire()
        self._longest = longest

    def ring(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # rung already: one wake-up is as good as two

    def wait(self, seconds: float) -> bool:
        """Whether nobody has rung meanwhile."""
        return not self._lock.acquire(True, min(max(seconds, 0.0), self._longest))


class SystemClock:
    """The machine's monotonic clock."""

    monotonic = staticmethod(time.monotonic)
    pause = staticmethod(time.sleep)

    @staticmethod
    def since_boot() -> float:
        """Seconds since the machine's start, which is how the kernel dates a process."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @staticmethod
    def epoch_ms() -> int:
        """The wall clock, for what leaves the process."""
        return int(time.time() * 1000)

    def make_alarm(self) -> SystemAlarm:
        return SystemAlarm(_longest_sleep())


def _longest_sleep() -> float:
    """How long a lock may be waited for in one go, in seconds.

    Before glibc 2.30 (Amazon Linux 2, so AWS's Python 3.11) a timed wait for a lock follows the
    wall clock, and a step back would put the watchdog to sleep past the deadline.
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
    """What is due when in one invocation, in seconds since its start.

    For every time left and every valid setting:
    ``0 <= grace_at <= overdue_at <= last_call_at <= dump_at <= limit``, and hooks that take their
    whole budget end before last call. No two are equal unless less than a microsecond has been
    asked for.
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
        # By then the watchdog would long have woken, if it could; see kernel_timers.
        self.overdue_at = (self.grace_at + self.last_call_at) / 2
        self.dump_at = limit - (limit - self.last_call_at) * DUMP_SHARE
        self.hook_budget = (
            self.grace_period * HOOK_SHARE
            if hook_budget is None
            else budget_within(self.grace_period, hook_budget, chosen_for=grace_period)
        )

    def wait_ends(self, landed_at: float) -> float:
        """When a cleanup that only waits is interrupted again, after what landed at `landed_at`."""
        return (landed_at + self.last_call_at) / 2

    def stage_at(self, before: float) -> float:
        """When the stage begins that is `before` seconds ahead of the hard deadline."""
        return self.limit - min(before, self.limit * STAGE_SHARE)
