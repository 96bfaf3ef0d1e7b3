"""Powertools' batch processors, which answer a timeout with the right ``batchItemFailures``.

Use this module in the place of ``aws_lambda_powertools.utilities.batch``: same names, same
arguments. Under the watchdog a timeout then ends the batch, not the invocation: records that are
done stay done; the one that was interrupted and those not begun are reported, as Lambda expects it
of a handler with ``ReportBatchItemFailures``. Outside of a watched invocation the processors are
Powertools' own.

Powertools takes the interrupt for the failure of one record and goes on with the next. So here the
interrupt lands in record handlers only, never in Powertools' bookkeeping, and once the grace period
has come no further record is begun and the handler is left alone until last call: the shield that
is up around the bookkeeping stays up.

Importing this module imports Powertools' batch utility; nothing else of the package does.
"""

# Powertools' batch utility is typed by halves: its records are bare dicts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportDeprecated=false

from __future__ import annotations

import asyncio
import sys
import types
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Final, Self

from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor as _AsyncBatchProcessor,
)
from aws_lambda_powertools.utilities.batch import (
    BasePartialBatchProcessor,
    BasePartialProcessor,
    BatchTypeModels,
    EventType,
    ExceptionInfo,
    FailureResponse,
    SuccessResponse,
    async_batch_processor,
    async_process_partial_response,
    batch_processor,
    process_partial_response,
)
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor as _BatchProcessor,
)
from aws_lambda_powertools.utilities.batch import (
    SqsFifoPartialProcessor as _SqsFifoPartialProcessor,
)

from watchdog_lambda._async import call_opaque
from watchdog_lambda._cpython.loops import run_out
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.invocation import active
from watchdog_lambda.errors import Interrupt, LambdaTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from watchdog_lambda._engine.invocation import Invocation

    Entry = SuccessResponse | FailureResponse

__all__ = [
    "AsyncBatchProcessor",
    "BasePartialBatchProcessor",
    "BasePartialProcessor",
    "BatchProcessor",
    "BatchTypeModels",
    "EventType",
    "ExceptionInfo",
    "FailureResponse",
    "SqsFifoPartialProcessor",
    "SuccessResponse",
    "async_batch_processor",
    "async_process_partial_response",
    "batch_processor",
    "process_partial_response",
]

_MISSING: Final = object()

_LONGEST_WAIT = 0.1
"""Seconds that the watchdog may be behind the clock before the batch ends without it."""

_YIELD = 0.001

_NOT_BEGUN: Final[ExceptionInfo] = (
    LambdaTimeout,
    LambdaTimeout("not begun: the invocation's time was up"),
    None,
)
_INTERRUPTED: Final[ExceptionInfo] = (
    LambdaTimeout,
    LambdaTimeout("interrupted: the invocation's time was up"),
    None,
)

_ENDS = (LambdaTimeout, Interrupt, BaseExceptionGroup, asyncio.CancelledError)
"""What an interrupt can leave a record as, past Powertools' ``except Exception``."""


class _Watch:
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
        self.invocation.shields += 1
        if self.invocation.firing is not None:
            try:
                self.invocation.firing.withdraw_for_shield()
            except (LambdaTimeout, Interrupt):
                pass  # an injected one has landed on the way: the next look at the time ends it all

    def uncover(self) -> None:
        self.invocation.shields -= 1

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
        for loop in loops:
            try:
                run_out(loop, last_call_at - SystemClock.monotonic())
            except (LambdaTimeout, Interrupt):
                pass  # last call

    def opened(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """`handler`, as the one place in a covered batch that interrupts may land in."""
        call = handler if _is_function(handler) else _opaque(handler)

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


class _AsyncRun:
    """One batch whose records are tasks."""

    __slots__ = ("entries", "is_over", "is_stopped", "loop", "tasks", "watch")

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.entries: dict[int, Entry] = {}  # by the record's id()
        self.is_stopped = False
        self.is_over = False

    def begin(self) -> None:
        """A record's task has begun. Called in it."""
        task = asyncio.current_task()
        if task is not None:
            self.loop = task.get_loop()
            self.tasks.append(task)

    def stop(self) -> None:
        """Cancel the records that have not come to an end; their cleanup is left alone."""
        self.is_stopped = True
        self.watch.cover()
        for task in self.tasks:
            # Once only: where the loop itself was interrupted, asyncio.run has done so before us.
            if task is not asyncio.current_task() and not task.cancelling():
                task.cancel()

    def end(self) -> None:
        """Run out the loop that an interrupt has come out of.

        ``asyncio.run`` has done so by itself. In Lambda, Powertools runs a loop that it keeps.
        """
        firing = self.watch.invocation.firing
        loops = dict.fromkeys(() if firing is None else firing.loops)
        if self.loop is not None:
            loops[self.loop] = None
        self.watch.run_out(list(loops))

    def opened(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """`handler`, which interrupts may land in; see :meth:`_Watch.opened`."""

        async def opened(**arguments: Any) -> Any:
            self.watch.uncover()
            try:
                return await handler(**arguments)
            finally:
                self.watch.cover()
                if self.is_over:
                    # It has outlived its cancellation. Its batch has been answered, and the
                    # processor's lists are the next one's.
                    raise asyncio.CancelledError

        return opened


class _StopsInTime(BasePartialBatchProcessor):
    """What both kinds of processors have in common."""

    def __exit__(self, *exception: object) -> None:
        # The batch is done, and the answer is being made of it.
        invocation = _own_invocation()
        if invocation is None:
            super().__exit__(*exception)  # type: ignore[no-untyped-call]
            return
        with _Watch(invocation):
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


class _Sync(_StopsInTime):
    def process(self) -> list[tuple[Any, ...]]:
        invocation = _own_invocation()
        if invocation is None:
            return super().process()
        handler = self.handler
        with _Watch(invocation) as watch:
            self.handler = watch.opened(handler)
            try:
                return [self._process_in_time(watch, record) for record in self.records]
            finally:
                self.handler = handler

    def _process_in_time(self, watch: _Watch, record: dict[Any, Any]) -> Entry:
        if watch.is_out_of_time():
            return self._fail(record, _NOT_BEGUN)
        try:
            entry: Entry = self._process_record(record)
        except _ENDS as error:
            if not watch.is_timeout(error):
                raise
            return self._fail(record, sys.exc_info())
        self._repair(record)
        return entry


class _Async(_StopsInTime):
    _run: _AsyncRun | None = None

    def async_process(self) -> list[tuple[Any, ...]]:
        invocation = _own_invocation()
        if invocation is None:
            return super().async_process()
        handler = self.handler
        with _Watch(invocation) as watch:
            run = self._run = _AsyncRun(watch)
            self.handler = run.opened(handler)
            try:
                try:
                    watch.uncover()
                    super().async_process()
                finally:
                    watch.cover()
            except _ENDS as error:
                if not watch.is_timeout(error):
                    raise
                run.end()
            finally:
                run.is_over = True
                self._run = None
                self.handler = handler
            return list(self._entries(run))

    def _entries(self, run: _AsyncRun) -> Iterator[Entry]:
        for record in self.records:
            entry = run.entries.get(id(record))
            yield self._fail(record, _INTERRUPTED) if entry is None else entry

    async def _async_process_record(self, record: dict[Any, Any]) -> Entry:
        run = self._run
        if run is None:
            entry: Entry = await super()._async_process_record(record)  # type: ignore[safe-super]
            return entry
        if run.watch.is_out_of_time():
            entry = self._fail(record, _NOT_BEGUN)
        else:
            run.begin()
            # No check point is between this task's being resumed and the handler's going on, nor
            # does Powertools wait for anything else: so the cover is down whenever a task waits.
            run.watch.cover()
            try:
                entry = await super()._async_process_record(record)  # type: ignore[safe-super]
                self._repair(record)
            except _ENDS as error:
                if run.is_over or not run.watch.is_timeout(error):
                    raise
                # Not out of the task: it would come out of the loop, and once more of the task that
                # gathers this one, where nobody asks for it and asyncio logs an error.
                entry = self._fail(record, sys.exc_info())
            finally:
                run.watch.uncover()
        run.entries[id(record)] = entry
        if run.watch.is_interrupted() and not run.is_stopped:
            # It has landed in this record's own step, not where the loop waits: the others would
            # go on.
            run.stop()
        return entry


class BatchProcessor(_Sync, _BatchProcessor):
    """Powertools' ``BatchProcessor``; under the watchdog it ends in time, with a partial response.

    A timeout does not end the invocation: the record that was interrupted and those not begun are
    reported as failed, with what failed by itself, and the handler goes on until last call at the
    most. A record whose handler caught the interrupt and returned is done. If no record was done,
    `raise_on_entire_batch_failure` decides, as for any other failure of the whole batch.

    Thread: the handler's; in any other it is Powertools' own.
    """


class AsyncBatchProcessor(_Async, _AsyncBatchProcessor):
    """Powertools' ``AsyncBatchProcessor``; under the watchdog it ends in time, as the sync one.

    All records are begun at once. In a timeout, those that have ended stay done, the others are
    cancelled (``CancelledError``), run to their end and reported; one that catches that and returns
    is done. No task is left pending, unless it resists until last call.

    Thread: the handler's; in any other it is Powertools' own.
    """


class SqsFifoPartialProcessor(_Sync, _SqsFifoPartialProcessor):
    """Powertools' ``SqsFifoPartialProcessor``; ends in time, as :class:`BatchProcessor`.

    The order of every message group is kept: all messages behind the one that was interrupted are
    reported, those of other groups too, for none of them has been begun.

    Thread: the handler's; in any other it is Powertools' own.
    """


def _own_invocation() -> Invocation | None:
    """The invocation whose handler runs in this thread; None outside of one."""
    invocation = active.get(get_ident())
    return invocation if invocation is not None and invocation.is_open else None


def _is_function(handler: Callable[..., Any]) -> bool:
    """Whether `handler` has a frame of its own that an interrupt can land in."""
    function = handler.__func__ if isinstance(handler, types.MethodType) else handler
    return isinstance(function, types.FunctionType)


def _opaque(handler: Callable[..., Any]) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return call_opaque(handler, (), arguments)

    return call
