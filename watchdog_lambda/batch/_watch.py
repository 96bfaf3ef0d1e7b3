"""When interrupts may land in a batch, and when the batch stops; for both kinds of processors."""

# Powertools' batch utility is typed by halves: its records are bare dicts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportDeprecated=false

from __future__ import annotations

import asyncio
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Final, Self

from aws_lambda_powertools.utilities.batch import (
    BasePartialBatchProcessor,
    ExceptionInfo,
    FailureResponse,
    SuccessResponse,
)

from watchdog_lambda._cpython.loops import run_out
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.current import invocation_of
from watchdog_lambda._engine.shields import lower_shield, raise_shield, withdraw_for_shield
from watchdog_lambda.errors import Interrupt, LambdaTimeout

from ._limit import checked, with_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog_lambda._engine.invocation import Invocation

    Entry = SuccessResponse | FailureResponse

_MISSING: Final = object()

_LONGEST_WAIT = 0.1
"""Seconds that the watchdog may be behind the clock before the batch ends without it."""

_YIELD = 0.001

NOT_BEGUN: Final[ExceptionInfo] = (
    LambdaTimeout,
    LambdaTimeout("not begun: the invocation's time was up"),
    None,
)

ENDS = (LambdaTimeout, Interrupt, BaseExceptionGroup, asyncio.CancelledError)
"""What an interrupt can leave a record as, past Powertools' ``except Exception``."""


class Watch:
    """When interrupts may land in one batch, and when it stops.

    Interrupts wait from :meth:`cover` to :meth:`uncover`. A batch that its time has run out on
    leaves the last cover up, so that the answer is not interrupted before last call.

    Thread: the handler's.
    """

    __slots__ = ("invocation",)

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation

    def __enter__(self) -> Self:
        self.cover()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_out_of_time():
            self._wait_until_fired()
        else:
            self.uncover()

    def cover(self) -> None:
        raise_shield(self.invocation)
        if self.invocation.firing is not None:
            try:
                withdraw_for_shield(self.invocation.firing)
            except (LambdaTimeout, Interrupt):
                pass  # an injected one has landed on the way: the next look at the time ends it all

    def uncover(self) -> None:
        lower_shield(self.invocation)

    def is_out_of_time(self) -> bool:
        """Whether the grace period has come, or the watchdog has acted on it."""
        return self.invocation.is_out_of_time()

    def is_interrupted(self) -> bool:
        """Whether an interrupt has been made for this invocation."""
        firing = self.invocation.firing
        return firing is not None and bool(firing.policy.records)

    def is_timeout(self, error: BaseException) -> bool:
        """Whether `error` is one of the interrupts, or what one has led to."""
        firing = self.invocation.firing
        if firing is None or not self.is_interrupted():
            return False
        if isinstance(error, LambdaTimeout | Interrupt | asyncio.CancelledError):
            return True
        return firing.policy.involves(error)

    def run_out(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        """Cancel what loops have been left with and run it to its end, until last call."""
        last_call_at = self.invocation.timeline().last_call_at
        firing = self.invocation.firing
        unended = None if firing is None else firing.unended
        for loop in loops:
            try:
                run_out(loop, last_call_at - self.invocation.elapsed(), unended)
            except (LambdaTimeout, Interrupt):
                pass  # last call

    def opened(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """`handler`, as the one place in a covered batch that interrupts may land in."""
        call = with_frame(handler)

        def opened(**arguments: Any) -> Any:
            result = _MISSING
            try:
                try:
                    self.uncover()
                    result = call(**arguments)
                finally:
                    self.cover()
            except (LambdaTimeout, Interrupt):
                if result is _MISSING:
                    raise
                # Injected when the handler had returned already: the record is done.
            return result

        return opened

    def _wait_until_fired(self) -> None:
        """Let the watchdog come: a batch that was cut short has its hooks and its record.

        It is milliseconds behind the clock, and would find the invocation ended.
        """
        until = SystemClock.monotonic() + _LONGEST_WAIT
        while not self.invocation.has_fired() and SystemClock.monotonic() < until:
            SystemClock.pause(_YIELD)


class StopsInTime(BasePartialBatchProcessor):
    """What both kinds of processors have in common."""

    def __init__(
        self, *arguments: Any, record_time_limit: float | None = None, **options: Any
    ) -> None:
        """Take Powertools' own arguments, and what a record may take.

        Args:
            *arguments: Powertools' own, as `options`.
            record_time_limit: seconds that the handler of one record may take. One that takes
                longer fails by itself, with ``TimeLimitExceeded``, and is reported; the next ones
                still have their turn. None is no limit.
            **options: Powertools' own.

        Raises:
            ConfigurationError: `record_time_limit` is not a number of seconds above 0.
        """
        self.record_time_limit = checked(record_time_limit)
        super().__init__(*arguments, **options)

    def __exit__(self, *exception: object) -> None:
        # The batch is done, and the answer is being made of it.
        invocation = own_invocation()
        if invocation is None:
            super().__exit__(*exception)  # type: ignore[no-untyped-call]
            return
        with Watch(invocation):
            super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def _fail(self, record: dict[Any, Any], exception: ExceptionInfo) -> FailureResponse:
        """Report a record that has not been done."""
        # Without the model: validators are the user's code, and there is no time for any.
        return self.failure_handler(self._to_batch_type(record, self.event_type), exception)

    def _repair(self, record: dict[Any, Any]) -> None:
        """Name the record that Powertools has just noted as failed, if it could not.

        An interrupt at last call, in a model's validator, leaves it with none.
        """
        if self.fail_messages and self.fail_messages[-1] is None:
            self.fail_messages[-1] = self._to_batch_type(record, self.event_type)


def own_invocation() -> Invocation | None:
    """The invocation whose handler runs in this thread; None outside of one."""
    invocation = invocation_of(get_ident())
    return invocation if invocation is not None and invocation.is_open else None
