"""Batches whose records are tasks of one event loop."""

# Powertools' batch utility is typed by halves: its records are bare dicts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportDeprecated=false

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

from watchdog_lambda.errors import LambdaTimeout

from ._limit import limited_async
from ._watch import ENDS, NOT_BEGUN, StopsInTime, Watch, own_invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aws_lambda_powertools.utilities.batch import ExceptionInfo

    from ._watch import Entry

INTERRUPTED: Final[ExceptionInfo] = (
    LambdaTimeout,
    LambdaTimeout("interrupted: the invocation's time was up"),
    None,
)


class AsyncRun:
    """One batch whose records are tasks."""

    __slots__ = ("entries", "is_over", "is_stopped", "loop", "tasks", "watch")

    def __init__(self, watch: Watch) -> None:
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
        """`handler`, which interrupts may land in; see :meth:`Watch.opened`."""

        async def opened(**arguments: Any) -> Any:
            self.watch.uncover()
            try:
                return await handler(**arguments)
            finally:
                self.watch.cover()
                if self.is_over:
                    # On a loop that it could not be stopped in (uvloop). Its batch has been
                    # answered, and the processor's lists are the next one's.
                    raise asyncio.CancelledError

        return opened


class AsyncBatch(StopsInTime):
    _run: AsyncRun | None = None

    def async_process(self) -> list[tuple[Any, ...]]:
        invocation = own_invocation()
        handler = self.handler
        limited = limited_async(handler, self.record_time_limit)
        if invocation is None:
            self.handler = limited
            try:
                return super().async_process()
            finally:
                self.handler = handler
        with Watch(invocation) as watch:
            run = self._run = AsyncRun(watch)
            self.handler = run.opened(limited)
            try:
                try:
                    watch.uncover()
                    super().async_process()
                finally:
                    watch.cover()
            except ENDS as error:
                if not watch.is_timeout(error):
                    raise
                run.end()
            finally:
                run.is_over = True
                self._run = None
                self.handler = handler
            return list(self._entries(run))

    def _entries(self, run: AsyncRun) -> Iterator[Entry]:
        for record in self.records:
            entry = run.entries.get(id(record))
            yield self._fail(record, INTERRUPTED) if entry is None else entry

    async def _async_process_record(self, record: dict[Any, Any]) -> Entry:
        run = self._run
        if run is None:
            entry: Entry = await super()._async_process_record(record)  # type: ignore[safe-super]
            return entry
        if run.watch.is_out_of_time():
            entry = self._fail(record, NOT_BEGUN)
        else:
            run.begin()
            # No check point is between this task's being resumed and the handler's going on, nor
            # does Powertools wait for anything else: so the cover is down whenever a task waits.
            run.watch.cover()
            try:
                entry = await super()._async_process_record(record)  # type: ignore[safe-super]
                self._repair(record)
            except ENDS as error:
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
