"""``time_limit``: a block that the watchdog ends when its time is up."""

from __future__ import annotations

import math
import os
import sys
from _thread import get_ident

from ._config import Settings
from ._cpython.source import SourceMap, current_path, innermost, trim
from ._engine.current import invocation_of
from ._engine.limits import Limit, TaskLimit
from ._plan import NO_FALLBACK, Plan
from ._process import process_watchdog
from .errors import ConfigurationError, Interrupt, TimeLimitExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from types import TracebackType
    from typing import Any, Self

__all__ = ["time_limit"]

_monotonic = process_watchdog.clock.monotonic


class time_limit:  # noqa: N801 - used like a function
    """Bound a block: ``with time_limit(5.0): load_rows()``; in a coroutine ``async with``.

    When its time is up, :class:`TimeLimitExceeded` lands in the block and leaves it, by the same
    rules as a timeout's interrupt: a blocked call is broken off, a :class:`shield` and a cleanup
    that handles the interrupt are waited for, and code that swallows it gets an
    :class:`Interrupt`, which leaves the block as a ``TimeLimitExceeded``. Nothing lands outside of
    the block. A coroutine is cancelled through its task while it waits.

    Limits nest. The one that is due first lands, and goes through the blocks inside of it as any
    error does. The invocation's deadline is the outermost limit.

    Not promised: that it lands. C code that never checks for signals ends first, and on other
    threads than the main one any blocked call does.

    Args:
        seconds: how long the block may take; None and infinity are no limit. With zero or less the
            block is not entered.

    Raises:
        ConfigurationError: not a number of seconds.
        TimeLimitExceeded: from the block, when it has taken longer.
        RuntimeError: entered a second time, or ``async with`` outside of a task.

    Thread: any; also outside of an invocation.
    """

    __slots__ = ("_cancels", "_limit", "_seconds", "expired")

    expired: bool
    """Whether the block has been interrupted because its time was up.

    Thread: the block's.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is None:
            seconds = math.inf
        elif not is_number(seconds):
            raise ConfigurationError(
                f"time_limit({seconds!r}): not a number of seconds; for example 5.0, or None for "
                "no limit"
            )
        self._seconds = seconds
        self._limit: Limit | None = None
        self._cancels = 0
        self.expired = False

    def remaining(self) -> float:
        """Seconds to the limit, negative once it has passed; before the block all that it has.

        ``math.inf`` if there is no limit. Thread: any.
        """
        limit = self._limit
        return self._seconds if limit is None else limit.hard - _monotonic()

    def __enter__(self) -> Self:
        self._begin(None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    async def __aenter__(self) -> Self:
        from asyncio import current_task  # noqa: PLC0415 - a coroutine's module has it

        task = current_task()
        if task is None:
            raise RuntimeError("async with time_limit(): there is no task to be cancelled")
        self._cancels = task.cancelling()
        self._begin(task)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    # ---- the two ends ------------------------------------------------------------------------

    def _begin(self, task: Task[Any] | None) -> None:
        if self._limit is not None:
            raise RuntimeError("a time_limit is used once; make another one for another block")
        seconds = self._seconds
        if seconds <= 0:
            self.expired = True
            raise self._exceeded(self._place_of_caller())
        now = _monotonic()
        if task is None:
            limit = Limit(_plan(), now, seconds, _EXIT)
        else:
            limit = TaskLimit(_plan(), now, seconds, _EXIT, task)
        self._limit = limit
        if seconds == math.inf:
            limit.is_open = False
            return
        try:
            limit.begin()
            # Not wake_at, at which the thread may only take a sample: the kernel's timer is set by
            # acts_at, and must reach C code in this block that holds the GIL. Pinned by
            # test_a_block_rings_although_the_thread_wakes_for_a_sample_before.
            if limit.due < process_watchdog.acts_at:
                process_watchdog.wake(limit)
        except BaseException as error:
            # An injection, or a signal handler of the user: the block is not entered.
            self._end(error)
            raise

    def _end(self, error: BaseException | None) -> None:
        limit = self._limit
        if limit is None:
            return
        try:
            # Close, then read the firing; see _engine.invocation.
            limit.is_open = False
            if limit.firing is not None:
                limit.firing.settle()
        except BaseException as late:
            # One injected interrupt was on its way, and this is it. What the block has come to
            # stays; but an interrupt of a limit around it goes on.
            limit.is_open = False
            firing = limit.firing
            if firing is not None:
                firing.settle()
            if firing is None or not firing.policy.has_made(late):
                raise
        finally:
            limit.end()
        if limit.firing is not None:
            self._judge(limit, error)

    def _judge(self, limit: Limit, error: BaseException | None) -> None:
        """Raise what the block ends with, unless that is `error` or nothing."""
        firing: Any = limit.firing
        if limit.is_cancelled:
            self.expired = True
            if self._is_own_cancellation(limit, error):
                raise self._exceeded(firing.details.location) from error
            return
        policy = firing.policy
        self.expired = any(record.landed_at is not None for record in policy.records)
        if error is None or not policy.involves(error):
            return
        if policy.has_made(error) and isinstance(error, TimeLimitExceeded):
            error.limit = self
            error.__traceback__ = trim(error.__traceback__)
            return
        raised = innermost(error)
        own = SourceMap(current_path())
        if (
            isinstance(error, Interrupt)
            or raised is None
            or not own.is_own(raised.tb_frame.f_code.co_filename)
        ):
            first = policy.records[0]
            timeout = self._exceeded(first.place, first.at)
            raise timeout.with_traceback(trim(error.__traceback__)) from (
                None if isinstance(error, Interrupt) else error
            )

    def _is_own_cancellation(self, limit: Any, error: BaseException | None) -> bool:
        from asyncio import CancelledError  # noqa: PLC0415 - there is a task

        # Others may have cancelled the task as well: then it stays cancelled.
        others = limit.uncancel() > self._cancels
        return isinstance(error, CancelledError) and not others

    def _exceeded(self, place: str, after: float | None = None) -> TimeLimitExceeded:
        seconds = max(self._seconds, 0.0) if after is None else after
        timeout = TimeLimitExceeded(
            f"interrupted after {seconds:.1f} s, the limit of this block, in {place}"
        )
        timeout.limit = self
        return timeout

    @staticmethod
    def _place_of_caller() -> str:
        frame = sys._getframe(3)
        code = frame.f_code
        return SourceMap(current_path()).place(code.co_filename, frame.f_lineno, code.co_name)


def is_number(seconds: object) -> bool:
    """Whether it is a number of seconds. Thread: any."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return not math.isnan(seconds)


_EXIT = time_limit.__exit__.__code__

_usual: list[Plan] = []


def _plan() -> Plan:
    """The settings in force: those of this thread's invocation, or else of the environment."""
    invocation = invocation_of(get_ident())
    if invocation is not None:
        return invocation.plan
    if not _usual:
        _usual.append(Plan(Settings.from_environ(os.environ), (), NO_FALLBACK, {}))
    return _usual[0]
