"""``time_limit``: the watchdog ends a block when its time is up."""

from __future__ import annotations

import math
import os
import sys
from _thread import get_ident

from ._config import Settings
from ._cpython.bytecode import protect_entry
from ._cpython.source import current_source, innermost, trim
from ._engine.current import invocation_of
from ._engine.limits import Limit
from ._engine.task_limits import TaskLimit
from ._plan import NO_FALLBACK, Plan
from ._process import process_watchdog
from ._setting import is_number
from .errors import ConfigurationError, Interrupt, TimeLimitExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Any, Self

__all__ = ["time_limit"]

_monotonic = process_watchdog.clock.monotonic


class time_limit:  # noqa: N801 - used like a function
    """Limit the time of a block: ``with time_limit(5.0): load_rows()``, or ``async with``.

    When the time is up, :class:`TimeLimitExceeded` lands in the block and leaves it. The rules are
    those of a timeout's interrupt: it ends a blocked call, it waits for a :class:`shield` and for
    the cleanup that handles it, and code that swallows it gets an :class:`Interrupt`, which leaves
    the block as a ``TimeLimitExceeded``. Nothing lands outside the block. A coroutine needs ``async
    with``, and is cancelled through its task while it waits.

    Limits nest. The one that is due first lands, and passes through the blocks inside it like any
    other error. The invocation's deadline is the outermost limit.

    Delivery is not guaranteed: C code that never checks for signals is not interrupted. Off the
    main thread no blocked call is.

    Args:
        seconds: how long the block may take; None and infinity mean no limit. With zero or less the
            block is not entered.

    Raises:
        ConfigurationError: not a number of seconds.
        TimeLimitExceeded: leaves the block if it takes longer.
        RuntimeError: entered a second time, or ``async with`` outside a task.

    Thread: any, also outside an invocation.
    """

    __slots__ = ("_cancels", "_limit", "_seconds", "expired")

    expired: bool
    """Whether the block was interrupted because its time was up.

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
        """Return the seconds left; negative once the limit has passed, ``math.inf`` without one.

        Before the block is entered, this is the whole limit. Thread: any.
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
        # An injection that coincides with the block's end lands in here, or in _end before the
        # limit is closed; see protect_entry. Pinned by
        # test_injection_at_block_end_is_withdrawn.
        try:
            limit: Any = self._limit
            self._end(limit, error)
        except BaseException as late:
            limit = self._limit
            if not limit.is_open:
                raise
            limit.is_open = False
            self._end(limit, error, late)
        return _NOTHING  # type: ignore[return-value]

    async def __aenter__(self) -> Self:
        from asyncio import current_task  # noqa: PLC0415 - loaded if there is a coroutine

        task = current_task()
        if task is None:
            raise RuntimeError("async with time_limit(): there is no task to cancel")
        self._cancels = task.cancelling()
        self._begin(task)
        return self

    # Not a coroutine function: 3.11 has a check point before the first line of one.
    __aexit__: Callable[..., Awaitable[None]] = __exit__  # type: ignore[assignment]

    # ---- the two ends ------------------------------------------------------------------------

    def _begin(self, task: Task[Any] | None) -> None:
        if self._limit is not None:
            raise RuntimeError("a time_limit can be used only once; make a new one for each block")
        seconds = self._seconds
        if seconds <= 0:
            self.expired = True
            frame = sys._getframe(2)
            code, place = frame.f_code, current_source().place
            raise self._exceeded(place(code.co_filename, frame.f_lineno, code.co_name))
        plan, now = _plan(), _monotonic()
        limit = Limit(plan, now, seconds) if task is None else TaskLimit(plan, now, seconds, task)
        self._limit = limit
        if seconds == math.inf:
            limit.is_open = False
            return
        try:
            limit.begin()
            # Not with wake_at, at which the thread may only take a sample: the kernel timer is set
            # for acts_at, and must reach C code in this block that holds the GIL. Pinned by
            # test_time_limit_rings_despite_an_earlier_sample.
            if (
                limit.due < process_watchdog.acts_at
                or limit.due < process_watchdog.kernel_timers.next_at
            ):
                process_watchdog.wake(limit)
        except BaseException as error:
            # An injection or the user's signal handler has raised: the block is not entered.
            self._end(limit, error)
            raise

    def _end(
        self, limit: Limit, error: BaseException | None, late: BaseException | None = None
    ) -> None:
        """Close the limit. Raise the error that the block ends with, if it is not `error` itself.

        `late` is an interrupt that landed at the block's end.
        """
        try:
            limit.close()
        except BaseException as injected:  # noqa: BLE001 - raised again below, or our own
            late = injected
            limit.close()
        finally:
            limit.end()
        firing = limit.firing
        if late is not None and (firing is None or not firing.policy.has_made(late)):
            raise late  # it belongs to a limit around this one
        # If `late` is this limit's own, the block's own result or error stays.
        if firing is not None:
            self._judge(limit, error, late)

    def _judge(self, limit: Limit, error: BaseException | None, late: BaseException | None) -> None:
        firing: Any = limit.firing
        if limit.is_cancelled and self._is_own_cancellation(limit, error):
            self.expired = True
            raise self._exceeded(limit.place) from error
        # Or an interrupt landed before the loop could deliver the cancellation. Pinned by
        # test_async_block_interrupted_and_cancelled_raises_limit_error.
        policy = firing.policy
        self.expired = limit.is_cancelled or any(
            record.landed_at is not None and (late is None or record.error() is not late)
            for record in policy.records
        )
        if error is None or not policy.involves(error):
            return
        if policy.has_made(error) and isinstance(error, TimeLimitExceeded):
            error.limit = self
            error.__traceback__ = trim(error.__traceback__)
            return
        raised, own = innermost(error), current_source()
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
        from asyncio import CancelledError  # noqa: PLC0415 - loaded if there is a task

        # If others have cancelled the task as well, it stays cancelled.
        others = limit.uncancel() > self._cancels
        is_own = isinstance(error, CancelledError) and not others
        return is_own or (error is not None and error is limit.thrown)

    def _exceeded(self, place: str, after: float | None = None) -> TimeLimitExceeded:
        seconds = max(self._seconds, 0.0) if after is None else after
        timeout = TimeLimitExceeded(
            f"interrupted after {seconds:.1f} s, the limit of this block, in {place}"
        )
        timeout.limit = self
        return timeout


protect_entry(time_limit.__exit__)  # type: ignore[arg-type]


class _Nothing(tuple[()]):
    """False for ``with``; awaitable for ``async with``, giving None at once."""

    __slots__ = ()

    def __await__(self) -> Any:
        return iter(self)


_NOTHING = _Nothing()

_usual: list[Plan] = []


def _plan() -> Plan:
    """Return the plan of this thread's invocation, or one with the environment's settings."""
    invocation = invocation_of(get_ident())
    if invocation is not None:
        return invocation.plan
    if not _usual:
        _usual.append(Plan(Settings.from_environ(os.environ), (), NO_FALLBACK, {}))
    return _usual[0]
