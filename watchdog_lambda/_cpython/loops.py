"""Event loops: which one is running, where its coroutines wait, and how to finish what is left.

asyncio is never imported here: if a loop is running, it has been imported already.
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
"""Thread id -> the coroutine of the ``async def`` handler that runs there.

Each thread writes only its own entry.
"""


def running_loop() -> AbstractEventLoop | None:
    """Return the loop that is running in this thread: asyncio's, or a compatible one (uvloop)."""
    events = sys.modules.get("asyncio.events")
    return None if events is None else events._get_running_loop()


def waits_in_c() -> bool:
    """Return whether C code of a loop (uvloop) is running here, and none of its tasks.

    That code treats what a signal handler raises as the error of a callback: it logs and drops an
    ``Exception``, and only a ``KeyboardInterrupt`` ends the loop.

    Thread: the loop's.
    """
    loop = running_loop()
    if loop is None or not type(loop).__module__.startswith("uvloop"):
        return False
    return sys.modules["asyncio"].current_task(loop) is None


def cleans_up() -> bool:
    """Return whether a task of the running loop has been cancelled, but has not ended yet.

    Thread: the loop's.
    """
    loop = running_loop()
    try:
        return loop is not None and any(
            t.cancelling() for t in sys.modules["asyncio"].all_tasks(loop)
        )
    except (AttributeError, RuntimeError, TypeError):
        return False  # not an asyncio loop, or one that creates tasks all the time


class _Stop:
    """A callback that stops a run of a loop. After the run it has no effect any more.

    A callback that an interrupted run left in the loop's queue would stop the next run as soon as
    it begins: "Event loop stopped before Future completed", in another invocation.
    """

    __slots__ = ("_loop", "is_wanted")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self.is_wanted = True

    def __call__(self, *_done: object) -> None:
        if self.is_wanted:
            self._loop.stop()


def finish_turn(loop: AbstractEventLoop) -> None:
    """Let a loop run the callbacks in its queue once.

    An interrupt that lands in the very turn in which a task has ended leaves a callback of
    ``run_until_complete`` in the queue, which would stop the loop's next run at once. This run is
    meant to be stopped at once.

    Thread: the loop's.
    """
    stop = _Stop(loop)
    loop.call_soon(stop)
    try:
        loop.run_forever()
    finally:
        stop.is_wanted = False


def end_run(loop: AbstractEventLoop) -> None:
    """Clean up after a run whose own cleanup was interrupted; otherwise do nothing.

    From Python 3.13 on a function cleans up after a run, and an injection may land at the beginning
    of that function. Then the loop would stay marked as running, and its thread as running a loop,
    so that nothing could run in either any more.

    Thread: the loop's.
    """
    base: Any = sys.modules["asyncio.base_events"].BaseEventLoop
    runs, cleanup = base.run_forever, getattr(base, "_run_forever_cleanup", None)
    own_runs: Any = getattr(type(loop), "run_forever", None)
    # A loop with its own implementation (uvloop, Qt, nest_asyncio) cannot be judged.
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
            return  # the loop really is running, further out on this stack
        frame = frame.f_back
    # A greenlet's stack does not include the loop that runs it (SQLAlchemy).
    if "greenlet" not in sys.modules or sys.modules["greenlet"].getcurrent().parent is None:
        cleanup(loop)


def run_out(loop: AbstractEventLoop, seconds: float, unended: list[str] | None = None) -> None:
    """Cancel the user's own tasks in a loop and run them to their end, for at most `seconds`.

    Tasks of libraries (a connection's reader, a heartbeat, a pool's workers) live on: what they
    serve is meant to outlive the invocation. The user's own async generators that are still open
    (after a ``break``, or after the interrupt) are closed, so that their ``finally`` runs.

    ``asyncio.run`` ends all tasks by itself. A bare ``run_until_complete`` (Mangum, Powertools'
    async processor) that an exception passes through leaves its tasks pending: their ``finally``
    would never run, or would run in the next invocation.

    Tasks that have not ended by then never run again: those that ignore their cancellation, that
    others have started while they ended, or that last call's interrupt has cut. Their names are
    added to `unended`. If last call cuts this short, a callback for :func:`finish_turn` may remain.

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
        # Do this before the tasks' own run, which a callback left by the handler's run would stop.
        # Pinned by test_leftover_stop_callback_does_not_end_run_out_early.
        finish_turn(loop)
        _run_to_the_end(loop, tasks, until)
        # Look for generators after the tasks, which close most of them when they end.
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
        finish_turn(loop)  # for callbacks that they have scheduled when they ended


async def _close(generator: AsyncGeneratorType[Any, Any]) -> None:
    await generator.aclose()


def wake(loop: AbstractEventLoop) -> None:
    """Wake a waiting loop, so that an injection lands in its thread.

    Call this after the injection: a loop that was woken before could already be waiting again.

    Thread: any but the loop's.
    """
    try:
        loop.call_soon_threadsafe(_nothing)
    except Exception:  # noqa: BLE001, S110 - closed by now, or a different kind of loop
        pass


def _nothing() -> None:
    """Do nothing. It only matters that the loop wakes to run this."""


def with_awaited(stack: Stack, thread_id: int, code: SourceMap) -> Stack:
    """Extend a thread's stack by what it awaits, if the stack contains no user code.

    A coroutine that waits is on no thread's stack; only its loop is. The handler's own coroutine is
    used, or else the loop's task that waits deepest in the user's code: the loop of a handler such
    as Mangum's is run by a library.

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
            return  # not an asyncio loop, or one that creates tasks all the time
        yield from sorted((awaited_stack(task.get_coro()) for task in tasks), key=len, reverse=True)


def loop_in(thread_id: int) -> AbstractEventLoop | None:
    """Find the loop that another thread runs, by the frame that runs it, if it is asyncio's own."""
    events = sys.modules.get("asyncio.base_events")
    if events is None or has_other_interpreters():
        return None
    runs = events.BaseEventLoop.run_forever.__code__
    with gc_paused():
        frame = frame_of(thread_id)
        while frame is not None and frame.f_code is not runs:
            frame = frame.f_back
        return None if frame is None else frame.f_locals.get("self")
