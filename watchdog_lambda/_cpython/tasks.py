"""asyncio's tasks and generators: where one waits, and which of them end with the invocation.

A task belongs to the user if the user's own code is in it, be it as its coroutine or as what that
awaits. One of asyncio's own coroutines (``asyncio.sleep()``) belongs to the user if nobody waits
for it: those that libraries make, they wait for. The others are libraries' (the reader of a
connection, a heartbeat, a pool's workers): they were made to outlive the invocation, and what they
serve breaks for good without them. So the task of a run that was interrupted ends, whoever it
belongs to (Mangum's, with an endpoint in a thread), and so do the user's own; nothing else does.
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
"""What has not ended with its invocation. Kept for good: the collector would run its ``finally`` in
somebody else's invocation."""

_AWAITED: dict[type[object], tuple[str, str]] = {
    types.CoroutineType: ("cr_frame", "cr_await"),
    types.GeneratorType: ("gi_frame", "gi_yieldfrom"),
}
"""The attributes that hold a frame, and what it waits for."""


def note_run(frame: FrameType | None) -> None:
    """Remember whose run of a loop an interrupt lands in, if `frame` is in one.

    Thread: the frame's own, or one in which no garbage is collected meanwhile.
    """
    events = sys.modules.get("asyncio.base_events")
    if events is None:
        return
    runs = events.BaseEventLoop.run_until_complete.__code__
    while frame is not None:
        if frame.f_code is runs:
            # A future by then, made of what was given.
            future = frame.f_locals.get("future")
            if future is not None and hasattr(future, "cancel"):
                _interrupted.add(future)
        frame = frame.f_back


def users_own(tasks: set[Task[Any]]) -> set[Task[Any]]:
    """Those of `tasks` that end with the invocation. Thread: their loop's."""
    if not tasks:
        return tasks
    code = SourceMap(current_path())
    return {task for task in tasks if task in _interrupted or _is_own(task, code)}


def left_open(loop: AbstractEventLoop) -> list[AsyncGeneratorType[Any, Any]]:
    """The user's own async generators of a loop that have begun and not ended.

    None where the loop does not say which it has (uvloop). Thread: the loop's.
    """
    generators = list(getattr(loop, "_asyncgens", None) or ())
    if not generators:
        return []
    code = SourceMap(current_path())
    return [each for each in generators if each.ag_frame and code.is_own(each.ag_code.co_filename)]


def park(loop: AbstractEventLoop, tasks: set[Task[Any]]) -> list[str]:
    """See to it that nothing of these tasks, nor of a generator that is open, runs ever again.

    A task that has been told to end, and has not, cannot be ended from outside: it takes no notice
    of ``close()`` either. So nothing wakes it any more, and nobody waits for it. uvloop does not
    show what is due for its turn: a task that is, at this instant, goes on there.

    Returns:
        The names of those that have not ended.

    Thread: the loop's, which does not run.
    """
    names: list[str] = []
    ready = list(getattr(loop, "_ready", ()))
    for task in tasks:
        if task.done():
            continue
        names.append(getattr(task.get_coro(), "__qualname__", task.get_name()))
        waited_for: Any = getattr(task, "_fut_waiter", None)
        callbacks: list[Any] = list(getattr(waited_for, "_callbacks", None) or ())
        for entry in callbacks:  # with its context
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
    # Code that waits for a task adds a callback to it; so do gather(), wait() and wait_for().
    is_awaited = bool(getattr(task, "_callbacks", True))
    return not is_awaited and all(map(is_stdlib, files))


def awaited_stack(awaited: object) -> Stack:
    """A coroutine's frame, and those of what it awaits, innermost first. Empty while it runs.

    The walk ends at whatever is neither a coroutine nor a generator of Python's own (a future, a
    class with an ``__await__``): its attributes could be the user's code.
    """
    stack: Stack = []
    if getattr(awaited, "cr_running", False):
        return stack
    with gc_paused():
        while (names := _AWAITED.get(type(awaited))) and len(stack) < MOST_OWN_FRAMES:
            frame, awaited = getattr(awaited, names[0]), getattr(awaited, names[1])
            if frame is None:
                break  # it has ended
            stack.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
    stack.reverse()
    return stack
