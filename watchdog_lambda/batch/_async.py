"""Batches whose records are tasks of one event loop."""

# Powertools' batch utility is only partly typed: its records are bare dicts.
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
        """Note that a record's task has begun. Called in that task."""
        task = asyncio.current_task()
        if task is not None:
            self.loop = task.get_loop()
            self.tasks.append(task)

    def stop(self) -> None:
        """Cancel the unfinished records. Their cleanup is not interrupted."""
        self.is_stopped = True
        self.watch.cover()
        for task in self.tasks:
            # Cancel only once: if the loop itself was interrupted, asyncio.run has cancelled them.
            if task is not asyncio.current_task() and not task.cancelling():
                task.cancel()

    def end(self) -> None:
        """Cancel and finish the tasks of the loop that an interrupt has left.

        ``asyncio.run`` does so by itself. In Lambda, however, Powertools uses a loop that it keeps.
        """
        firing = self.watch.invocation.firing
        loops = dict.fromkeys(() if firing is None else firing.loops)
        if self.loop is not None:
            loops[self.loop] = None
        self.watch.run_out(list(loops))

    def opened(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `handler` so that interrupts may land in it; see :meth:`Watch.opened`."""

        async def opened(**arguments: Any) -> Any:
            self.watch.uncover()
            try:
                return await handler(**arguments)
            finally:
                self.watch.cover()
                if self.is_over:
                    # The task has outlived its batch, on a loop where it could not be stopped
                    # (uvloop). The processor's lists now belong to the next batch.
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
            # There is no check point between the resumption of this task and that of the handler,
            # and Powertools awaits nothing else. So the cover is down whenever a task waits.
            run.watch.cover()
            try:
                entry = await super()._async_process_record(record)  # type: ignore[safe-super]
                self._repair(record)
            except ENDS as error:
                if run.is_over or not run.watch.is_timeout(error):
                    raise
                # The error must not leave the task: it would leave the loop too, and be set on the
                # task that gathers this one, where nobody retrieves it and asyncio logs an error.
                entry = self._fail(record, sys.exc_info())
            finally:
                run.watch.uncover()
        run.entries[id(record)] = entry
        if run.watch.is_interrupted() and not run.is_stopped:
            # The interrupt landed in this record's own step, not in the loop's wait. Without this
            # the other records would continue.
            run.stop()
        return entry
