"""When interrupts may land in a batch and when the batch stops, for both kinds of processors."""

# Powertools' batch utility is only partly typed: its records are bare dicts.
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
"""Seconds that a batch waits for the watchdog to fire, before it ends without it."""

_YIELD = 0.001

NOT_BEGUN: Final[ExceptionInfo] = (
    LambdaTimeout,
    LambdaTimeout("not begun: the invocation's time was up"),
    None,
)

ENDS = (LambdaTimeout, Interrupt, BaseExceptionGroup, asyncio.CancelledError)
"""The exceptions as which an interrupt can leave a record, despite Powertools' ``except
Exception``."""


class Watch:
    """Decides when interrupts may land in one batch, and when the batch stops.

    Interrupts wait from :meth:`cover` to :meth:`uncover`. A batch that has run out of time leaves
    the last cover up, so that its answer is not interrupted before last call.

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
                pass  # an injection has landed here; the next check of the time ends the batch

    def uncover(self) -> None:
        lower_shield(self.invocation)

    def is_out_of_time(self) -> bool:
        """Return whether the grace period has begun, or the watchdog has fired."""
        return self.invocation.is_out_of_time()

    def is_interrupted(self) -> bool:
        """Return whether an interrupt has been raised or injected in this invocation."""
        firing = self.invocation.firing
        return firing is not None and bool(firing.policy.records)

    def is_timeout(self, error: BaseException) -> bool:
        """Return whether `error` is one of the interrupts, or was caused by one."""
        firing = self.invocation.firing
        if firing is None or not self.is_interrupted():
            return False
        if isinstance(error, LambdaTimeout | Interrupt | asyncio.CancelledError):
            return True
        return firing.policy.involves(error)

    def run_out(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        """Cancel the tasks left in the loops and run them to their end, until last call."""
        last_call_at = self.invocation.timeline().last_call_at
        firing = self.invocation.firing
        unended = None if firing is None else firing.unended
        for loop in loops:
            try:
                run_out(loop, last_call_at - self.invocation.elapsed(), unended)
            except (LambdaTimeout, Interrupt):
                pass  # last call

    def opened(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `handler` as the only place in a covered batch where interrupts may land."""
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
                # Injected after the handler had returned: the record is done.
            return result

        return opened

    def _wait_until_fired(self) -> None:
        """Wait for the watchdog to fire, so that a batch cut short gets its hooks and its record.

        The watchdog acts some milliseconds late, and would find that the invocation has ended.
        """
        until = SystemClock.monotonic() + _LONGEST_WAIT
        while not self.invocation.has_fired() and SystemClock.monotonic() < until:
            SystemClock.pause(_YIELD)


class StopsInTime(BasePartialBatchProcessor):
    """The part that both kinds of processors share."""

    def __init__(
        self, *arguments: Any, record_time_limit: float | None = None, **options: Any
    ) -> None:
        """Take Powertools' own arguments, and a time limit for each record.

        Args:
            *arguments: Powertools' own.
            record_time_limit: seconds that the handler of one record may take. A record that takes
                longer fails by itself, with ``TimeLimitExceeded``, and is reported; the next ones
                are still processed. None means no limit.
            **options: Powertools' own.

        Raises:
            ConfigurationError: `record_time_limit` is not a number of seconds above 0.
        """
        self.record_time_limit = checked(record_time_limit)
        super().__init__(*arguments, **options)

    def __exit__(self, *exception: object) -> None:
        # The records are processed; Powertools builds the response here.
        invocation = own_invocation()
        if invocation is None:
            super().__exit__(*exception)  # type: ignore[no-untyped-call]
            return
        with Watch(invocation):
            super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def _fail(self, record: dict[Any, Any], exception: ExceptionInfo) -> FailureResponse:
        """Report a record as failed."""
        # Skip the model: its validators are the user's code, and there is no time left for them.
        return self.failure_handler(self._to_batch_type(record, self.event_type), exception)

    def _repair(self, record: dict[Any, Any]) -> None:
        """Name the record that Powertools has just noted as failed, if Powertools could not.

        After an interrupt at last call in a model's validator, Powertools notes None.
        """
        if self.fail_messages and self.fail_messages[-1] is None:
            self.fail_messages[-1] = self._to_batch_type(record, self.event_type)


def own_invocation() -> Invocation | None:
    """Return the invocation whose handler runs in this thread, or None."""
    invocation = invocation_of(get_ident())
    return invocation if invocation is not None and invocation.is_open else None
