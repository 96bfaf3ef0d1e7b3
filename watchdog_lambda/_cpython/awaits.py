"""Where a suspended task waits, and how to make it continue with an exception.

Thread: the loop's, between two steps of its tasks.
"""

from __future__ import annotations

from .clauses import is_handling
from .tasks import awaited_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any

    Step = tuple[int, int, bool]
    """One frame of a suspended task: its identity, so that it is not kept alive; the instruction;
    whether that is in a handler. No class: an interrupt could land in its generated code."""


def steps(task: Task[Any]) -> list[Step]:
    """Return the frames of a suspended task, outermost first; empty if it is due for its turn.

    What an async generator or C code awaits is not among them.
    """
    if getattr(task, "_fut_waiter", None) is None:
        return []
    return [
        (id(frame), frame.f_lasti, is_handling(frame.f_code, frame.f_lasti))
        for frame in awaited_by(task.get_coro())[0]
    ]


def is_whole(task: Task[Any]) -> bool:
    """Return whether no further code is between these frames and what the task waits for."""
    awaited = awaited_by(task.get_coro())[1]
    return awaited is None or type(awaited).__name__ == "FutureIter"


def raise_in(task: Task[Any], error: BaseException) -> bool:
    """Make a waiting task continue with `error`, and cancel what it waits for.

    Return whether it does: not if the task is not waiting. asyncio itself can only cancel a task.
    """
    waited_for: Any = getattr(task, "_fut_waiter", None)
    callbacks: list[Any] = list(getattr(waited_for, "_callbacks", None) or ())
    for callback, context in callbacks:
        if getattr(callback, "__self__", None) is not task:
            continue
        waited_for.remove_done_callback(callback)
        waited_for.cancel()
        loop = task.get_loop()
        done = loop.create_future()
        done.set_exception(error)
        loop.call_soon(callback, done, context=context)
        return True
    return False
