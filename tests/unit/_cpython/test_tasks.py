"""Which tasks of a loop end with the invocation, and which of them are a library's."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.still_loop import StillLoop, still
from watchdog_lambda._cpython import tasks
from watchdog_lambda._cpython.loops import finish_turn, run_out
from watchdog_lambda._cpython.tasks import note_run, users_own

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["still"]

LIBRARY = """
import asyncio

async def reads():
    await asyncio.sleep(30)

async def calls(back):
    await back()

async def waits_for(awaitable):
    return await asyncio.wait([asyncio.ensure_future(awaitable)])
"""


def library() -> dict[str, Any]:
    """Return the functions of a module that looks as if pip had installed it."""
    namespace: dict[str, Any] = {}
    exec(compile(LIBRARY, "/opt/app/site-packages/broker/reader.py", "exec"), namespace)  # noqa: S102
    return namespace


async def waits() -> None:
    await asyncio.sleep(30)


def begun(loop: StillLoop, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Return a task that has begun to wait, and that nothing awaits."""
    task = loop.create_task(coroutine)
    finish_turn(loop)
    return task


def end(loop: StillLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    finish_turn(loop)
    finish_turn(loop)


def test_library_task_survives_the_invocation(still: StillLoop) -> None:
    """A library's own task, such as a connection's reader, survives the invocation."""
    reader, own = begun(still, library()["reads"]()), begun(still, waits())

    run_out(still, 5.0)

    assert (reader.done(), own.cancelled(), still.now) == (False, True, 0.0)
    end(still)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(waits, id="user coroutine"),
        pytest.param(
            lambda: library()["calls"](waits), id="library coroutine that calls user code"
        ),
        pytest.param(lambda: asyncio.sleep(30), id="asyncio coroutine that nothing awaits"),
    ],
)
def test_user_task_ends_with_the_invocation(
    make: Callable[[], Coroutine[Any, Any, Any]], still: StillLoop
) -> None:
    """A task ends with the invocation if user code is in it, or no library waits for it."""
    task = begun(still, make())

    run_out(still, 5.0)

    assert task.cancelled()


def test_task_awaited_by_library_task_survives(still: StillLoop) -> None:
    """A task that a library's task waits for survives; cancelling it would end the library's."""
    waiting = begun(still, library()["waits_for"](asyncio.sleep(30)))
    assert len(asyncio.all_tasks(still)) == 2

    assert users_own(asyncio.all_tasks(still)) == set()
    assert not waiting.done()
    end(still)


def test_main_task_of_interrupted_run_ends(still: StillLoop) -> None:
    """The main task of an interrupted run ends, even if its coroutine is a library's.

    A framework runs its own coroutine, and the endpoint in a thread.
    """
    task = still.create_task(library()["reads"]())

    def strike() -> None:
        note_run(sys._getframe())
        raise KeyboardInterrupt

    still.call_soon(strike)
    with pytest.raises(KeyboardInterrupt):
        still.run_until_complete(task)

    assert users_own(asyncio.all_tasks(still)) == {task}
    run_out(still, 5.0)
    assert task.cancelled()


def test_note_run_does_nothing_outside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """``note_run`` notes nothing outside of a run, or if asyncio is not imported."""
    before = set(tasks._interrupted)
    note_run(sys._getframe())
    monkeypatch.delitem(sys.modules, "asyncio.base_events")
    note_run(sys._getframe())
    note_run(None)

    assert set(tasks._interrupted) == before
    assert users_own(set()) == set()
