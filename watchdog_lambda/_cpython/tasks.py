"""asyncio's tasks and generators: where they wait, and which of them end with the invocation.

A task belongs to the user if the user's own code is in it, as its coroutine or as something that
the coroutine awaits. A task of one of asyncio's own coroutines (``asyncio.sleep()``) belongs to the
user if nothing awaits it, because libraries await those that they create. All other tasks belong to
libraries (the reader of a connection, a heartbeat, a pool's workers): they are meant to outlive the
invocation, and what they serve would break permanently without them. So the task of an interrupted
run ends, even if it is a library's (Mangum's, with an endpoint in a thread), and so do the user's
own tasks. No others do.
"""

from __future__ import annotations

import sys
import types
import weakref

from .source import SourceMap, current_path, is_stdlib
from .stacks import MOST_OWN_FRAMES, gc_paused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from types import AsyncGeneratorType, FrameType
    from typing import Any

    from .stacks import Stack

_interrupted: weakref.WeakSet[Any] = weakref.WeakSet()
"""The futures of runs that an interrupt has landed in. Written by the handlers' threads."""

_parked: list[object] = []
"""Tasks and generators that have not ended with their invocation. They are kept forever, because
the collector would run their ``finally`` in another invocation."""

_AWAITED: dict[type[object], tuple[str, str]] = {
    types.CoroutineType: ("cr_frame", "cr_await"),
    types.GeneratorType: ("gi_frame", "gi_yieldfrom"),
}
"""The attributes for an object's frame, and for what it awaits."""


def note_run(frame: FrameType | None) -> None:
    """If `frame` is in a run of a loop, remember the future of that run: an interrupt lands in it.

    Thread: the frame's own, or any other while the collector is paused.
    """
    events = sys.modules.get("asyncio.base_events")
    if events is None:
        return
    runs = events.BaseEventLoop.run_until_complete.__code__
    while frame is not None:
        if frame.f_code is runs:
            # By then the argument has been turned into a future.
            future = frame.f_locals.get("future")
            if future is not None and hasattr(future, "cancel"):
                _interrupted.add(future)
        frame = frame.f_back


def users_own(tasks: set[Task[Any]]) -> set[Task[Any]]:
    """Return those of `tasks` that end with the invocation. Thread: their loop's."""
    if not tasks:
        return tasks
    code = SourceMap(current_path())
    return {task for task in tasks if task in _interrupted or _is_own(task, code)}


def left_open(loop: AbstractEventLoop) -> list[AsyncGeneratorType[Any, Any]]:
    """Return the user's own async generators of a loop that have begun and not ended.

    Empty if the loop does not expose its generators (uvloop). Thread: the loop's.
    """
    generators = list(getattr(loop, "_asyncgens", None) or ())
    if not generators:
        return []
    code = SourceMap(current_path())
    return [each for each in generators if each.ag_frame and code.is_own(each.ag_code.co_filename)]


def park(loop: AbstractEventLoop, tasks: set[Task[Any]]) -> list[str]:
    """Make sure that no part of these tasks, or of open generators, ever runs again.

    A task that ignores its cancellation cannot be ended from outside: it ignores ``close()`` as
    well. So everything that would wake it is removed. uvloop does not expose its queue, so there a
    task that is due for its turn at this instant continues.

    Returns:
        The names of the tasks that have not ended.

    Thread: the loop's, while the loop is not running.
    """
    names: list[str] = []
    ready = list(getattr(loop, "_ready", ()))
    for task in tasks:
        if task.done():
            continue
        names.append(getattr(task.get_coro(), "__qualname__", task.get_name()))
        waited_for: Any = getattr(task, "_fut_waiter", None)
        callbacks: list[Any] = list(getattr(waited_for, "_callbacks", None) or ())
        for entry in callbacks:  # a callback with its context
            if getattr(entry[0], "__self__", None) is task:
                waited_for.remove_done_callback(entry[0])
        for handle in ready:
            if getattr(handle._callback, "__self__", None) is task:
                handle.cancel()
        _parked.append(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        sys.modules["asyncio.tasks"]._unregister_task(task)
    _parked.extend(left_open(loop))
    return sorted(names)


def _is_own(task: Task[Any], code: SourceMap) -> bool:
    files = [file for file, _, _ in awaited_stack(task.get_coro())]
    if any(code.is_own(file) for file in files):
        return True
    # Code that awaits a task adds a callback to it; so do gather(), wait() and wait_for().
    is_awaited = bool(getattr(task, "_callbacks", True))
    return not is_awaited and all(map(is_stdlib, files))


def awaited_stack(awaited: object) -> Stack:
    """Return the frames of a coroutine and of what it awaits, innermost first; empty while it runs.

    The walk ends at anything that is not Python's own coroutine or generator (a future, a class
    with an ``__await__``), because its attributes could be the user's code.
    """
    with gc_paused():
        stack: Stack = [
            (frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name)
            for frame in awaited_by(awaited)[0]
        ]
    stack.reverse()
    return stack


def awaited_by(awaited: object) -> tuple[list[FrameType], object]:
    """Return the same frames themselves, outermost first, and what the innermost one awaits."""
    frames: list[FrameType] = []
    if getattr(awaited, "cr_running", False):
        return frames, awaited
    while (names := _AWAITED.get(type(awaited))) and len(frames) < MOST_OWN_FRAMES:
        frame, awaited = getattr(awaited, names[0]), getattr(awaited, names[1])
        if frame is None:
            break  # this coroutine has ended
        frames.append(frame)
    return frames, awaited
