"""Event loops: which one runs here, where its coroutines wait, and running out what is left in one.

asyncio is never imported: a loop that runs has been.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from .stacks import frame_of, gc_paused, has_other_interpreters
from .tasks import awaited_stack, left_open, park, users_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Iterator
    from types import AsyncGeneratorType, CoroutineType, FrameType
    from typing import Any

    from .source import SourceMap
    from .stacks import Stack

coroutines: dict[int, CoroutineType[Any, Any, Any]] = {}
"""Thread id -> the coroutine of the ``async def`` handler that is run there.

Each thread writes its own entry.
"""


def running_loop() -> AbstractEventLoop | None:
    """The loop that runs in this thread, asyncio's or one that follows it (uvloop)."""
    events = sys.modules.get("asyncio.events")
    return None if events is None else events._get_running_loop()


def waits_in_c() -> bool:
    """Whether C code of a loop (uvloop) runs here, and no task of it.

    It takes what a signal's handler raises for the error of a callback: an ``Exception`` is logged
    and lost, and only a ``KeyboardInterrupt`` ends the loop.

    Thread: the loop's.
    """
    loop = running_loop()
    if loop is None or not type(loop).__module__.startswith("uvloop"):
        return False
    return sys.modules["asyncio"].current_task(loop) is None


def cleans_up() -> bool:
    """Whether a task of the loop that runs here has been cancelled, and has not ended yet.

    Thread: the loop's.
    """
    loop = running_loop()
    try:
        return loop is not None and any(
            t.cancelling() for t in sys.modules["asyncio"].all_tasks(loop)
        )
    except (AttributeError, RuntimeError, TypeError):
        return False  # a loop that is no asyncio's, or that makes tasks all the time


class _Stop:
    """Ends a run of a loop. Once that is over, what the loop still has of it does nothing.

    What is left in a loop's queue by a run that was cut would end the next one as soon as it
    begins: "Event loop stopped before Future completed", in somebody else's invocation.
    """

    __slots__ = ("_loop", "is_wanted")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self.is_wanted = True

    def __call__(self, *_done: object) -> None:
        if self.is_wanted:
            self._loop.stop()


def finish_turn(loop: AbstractEventLoop) -> None:
    """Have a loop run once what waits for its turn in there.

    An interrupt that lands in the very turn in which a task has ended leaves a callback of
    ``run_until_complete`` behind that would stop the loop's next run at once. So this one is meant
    to be stopped at once.

    Thread: the loop's.
    """
    stop = _Stop(loop)
    loop.call_soon(stop)
    try:
        loop.run_forever()
    finally:
        stop.is_wanted = False


def end_run(loop: AbstractEventLoop) -> None:
    """Clean up after a run that an interrupt ended before its own cleanup; otherwise do nothing.

    From Python 3.13 on a function cleans up after a run, and an injection may land where that
    function begins. Then the loop would count as running for good, and its thread as running a
    loop, and nothing could run in either any more.

    Thread: the loop's.
    """
    base: Any = sys.modules["asyncio.base_events"].BaseEventLoop
    runs, cleanup = base.run_forever, getattr(base, "_run_forever_cleanup", None)
    own_runs: Any = getattr(type(loop), "run_forever", None)
    # A loop that goes about it in its own way (uvloop's, Qt's, nest_asyncio's) cannot be judged.
    if (
        cleanup is None
        or own_runs is not runs
        or runs.__module__ != base.__module__
        or not loop.is_running()
    ):
        return
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is runs.__code__:
            return  # it does run, further down
        frame = frame.f_back
    # A greenlet's stack ends before that of the loop that runs it (SQLAlchemy's).
    if "greenlet" not in sys.modules or sys.modules["greenlet"].getcurrent().parent is None:
        cleanup(loop)


def run_out(loop: AbstractEventLoop, seconds: float, unended: list[str] | None = None) -> None:
    """Cancel the user's own tasks in a loop and run them to their end, for at most `seconds`.

    Those of libraries (a connection's reader, a heartbeat, a pool's workers) live on: what they
    serve is meant to outlive the invocation. The user's own async generators that are left open (by
    a ``break``, or by the interrupt) are closed, so that their ``finally`` runs.

    ``asyncio.run`` ends all tasks by itself. A bare ``run_until_complete`` (Mangum, Powertools'
    async processor) that an exception goes through leaves its tasks pending: their ``finally``
    would never run, or run in the next invocation.

    What has not ended then never runs again: a task that takes no notice of its cancellation, what
    the tasks' ends have begun, what last call's interrupt has cut. `unended` is told of each.

    Cut short by last call's interrupt, it may leave a callback of :func:`finish_turn`'s kind.

    Thread: the one that the loop ran in.
    """
    end_run(loop)
    if loop.is_closed() or loop.is_running():
        return
    until = loop.time() + max(0.0, seconds)
    all_tasks = sys.modules["asyncio"].all_tasks
    tasks = users_own(all_tasks(loop))
    try:
        for task in tasks:
            task.cancel()
        # Before the tasks' own run, or what is left of the handler's would end that. Pinned by
        # test_what_the_handlers_run_has_left_does_not_cut_the_tasks_short.
        finish_turn(loop)
        _run_to_the_end(loop, tasks, until)
        # After the tasks, whose ends close most of them.
        generators = left_open(loop)
        if generators:
            closing = {loop.create_task(_close(each)) for each in generators}
            tasks |= closing
            _run_to_the_end(loop, closing, until)
    finally:
        names = park(loop, tasks | users_own(all_tasks(loop)))
        if unended is not None:
            unended += names


def _run_to_the_end(loop: AbstractEventLoop, tasks: set[Task[Any]], until: float) -> None:
    pending = [task for task in tasks if not task.done()]
    if not pending:
        return
    stop = _Stop(loop)
    timer = loop.call_at(until, stop)
    sys.modules["asyncio"].gather(*pending, return_exceptions=True).add_done_callback(stop)
    try:
        loop.run_forever()
    finally:
        stop.is_wanted = False
        timer.cancel()
    if all(task.done() for task in pending):
        finish_turn(loop)  # for what their ends have called for soon


async def _close(generator: AsyncGeneratorType[Any, Any]) -> None:
    await generator.aclose()


def wake(loop: AbstractEventLoop) -> None:
    """Have a loop that waits come back from its wait, so that an injection lands in its thread.

    Call it after the injection: a loop that has come back before could already wait again.

    Thread: any but the loop's.
    """
    try:
        loop.call_soon_threadsafe(_nothing)
    except Exception:  # noqa: BLE001, S110 - closed by now, or has a way of its own
        pass


def _nothing() -> None:
    """Do nothing: that the loop runs it is all that matters."""


def with_awaited(stack: Stack, thread_id: int, code: SourceMap) -> Stack:
    """A thread's stack, and in it what is awaited, where none of the user's own code runs.

    A coroutine that waits is in no thread's stack; only its loop's is. Taken is the handler's own
    coroutine, or else that task of the loop which waits the deepest in the user's code: a handler
    such as Mangum's has its loop run by somebody else.

    Thread: any.
    """
    if code.has_own(stack):
        return stack
    for awaited in _awaited(thread_id):
        if code.has_own(awaited):
            return awaited + stack
    return stack


def _awaited(thread_id: int) -> Iterator[Stack]:
    coroutine = coroutines.get(thread_id)
    if coroutine is not None and coroutine.cr_frame is not None:
        yield awaited_stack(coroutine)
    loop = running_loop() if thread_id == get_ident() else loop_in(thread_id)
    if loop is not None:
        try:
            tasks = sorted(sys.modules["asyncio"].all_tasks(loop), key=lambda task: task.get_name())
        except (AttributeError, RuntimeError, TypeError):
            return  # a loop that is no asyncio's, or that makes tasks all the time
        yield from sorted((awaited_stack(task.get_coro()) for task in tasks), key=len, reverse=True)


def loop_in(thread_id: int) -> AbstractEventLoop | None:
    """The loop that runs in another thread, if it is asyncio's own: from the frame that runs it."""
    events = sys.modules.get("asyncio.base_events")
    if events is None or has_other_interpreters():
        return None
    runs = events.BaseEventLoop.run_forever.__code__
    with gc_paused():
        frame = frame_of(thread_id)
        while frame is not None and frame.f_code is not runs:
            frame = frame.f_back
        return None if frame is None else frame.f_locals.get("self")
