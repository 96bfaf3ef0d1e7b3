"""What can be told of event loops from outside; loops that run are in tests/threads."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import types
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import plan
from watchdog_lambda import LambdaTimeout, _coroutines, _loops, watch
from watchdog_lambda._coroutines import as_function
from watchdog_lambda._invocation import Invocation, active
from watchdog_lambda._loops import _awaited, _chain, _loop_in, coroutines, waits_in_c, with_awaited
from watchdog_lambda._places import CodeMap

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator

IDENT = threading.get_ident()


# ---- where coroutines wait ---------------------------------------------------------------------


@types.coroutine
def gives_way() -> Generator[None]:
    yield


async def waits() -> None:
    await gives_way()


@pytest.fixture
def waiting() -> Iterator[Coroutine[Any, Any, None]]:
    """A coroutine that awaits something."""
    coroutine = waits()
    coroutine.send(None)
    yield coroutine
    coroutine.close()


def test_a_chain_is_what_is_awaited_innermost_first(waiting: Coroutine[Any, Any, None]) -> None:
    """None of one that has ended."""
    assert [function for _, _, function in _chain(waiting)] == ["gives_way", "waits"]

    waiting.close()

    assert _chain(waiting) == []
    assert _chain(None) == []


def test_a_coroutine_that_runs_is_in_its_threads_stack() -> None:
    """So it has no chain of its own."""
    chains: list[Any] = []

    async def looks() -> None:
        chains.append(_chain(coroutine))

    coroutine = looks()
    with pytest.raises(StopIteration):
        coroutine.send(None)

    assert chains == [[]]


def test_a_stack_without_own_code_gets_what_is_awaited(
    waiting: Coroutine[Any, Any, None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that is the user's; else the stack is as it was."""
    code = CodeMap(["/task"])
    stack = [(threading.__file__, 1, "wait")]
    monkeypatch.setitem(coroutines, IDENT, waiting)

    assert with_awaited(stack, IDENT, code) == [*_chain(waiting), *stack]

    own = [("/task/app.py", 1, "handler")]
    monkeypatch.setattr(CodeMap, "has_own", lambda _code, given: given == own)
    assert with_awaited(stack, IDENT, code) == stack
    assert with_awaited(own, IDENT, code) == own


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_a_loop_whose_tasks_cannot_be_told_has_none(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """One that is no asyncio's, or that makes tasks all the time."""

    def fail(_loop: object) -> None:
        raise error

    monkeypatch.setattr(_loops, "running_loop", object)
    monkeypatch.setattr(asyncio, "all_tasks", fail)

    assert list(_awaited(IDENT)) == []


def test_without_asyncio_no_thread_has_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the frames are not looked at."""
    monkeypatch.delitem(sys.modules, "asyncio.base_events")
    monkeypatch.setattr(_loops, "frame_of", None)

    assert _loop_in(IDENT) is None


@pytest.mark.parametrize(
    ("module", "task", "expected"),
    [
        ("uvloop", None, True),
        ("uvloop.loop", object(), False),
        ("asyncio.unix_events", None, False),
    ],
)
def test_only_uvloop_outside_of_its_tasks_waits_in_c(
    monkeypatch: pytest.MonkeyPatch, module: str, task: object, *, expected: bool
) -> None:
    """What is raised in a task of it is the task's."""
    loop = type("Loop", (), {"__module__": module})()
    monkeypatch.setattr(_loops, "running_loop", lambda: loop)
    monkeypatch.setattr(asyncio, "current_task", lambda given: task if given is loop else 1 // 0)

    assert waits_in_c() is expected


# ---- handlers that are coroutines --------------------------------------------------------------


async def answers(_event: object, _context: object) -> str:
    return "answer"


def test_a_handler_that_nobody_watches_has_a_loop_and_seconds_for_what_it_leaves() -> None:
    """As without a context: there is no deadline to go by."""
    left: list[float] = []

    async def handler(_event: object, _context: object) -> str:
        return "answer"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_coroutines, "run_out", lambda _loop, seconds: left.append(seconds))
        assert watch(handler)({}, None) == "answer"

    assert left == [_coroutines._UNWATCHED_END]


def interrupted(after: bool) -> Callable[..., Any]:  # noqa: FBT001
    """In the place of ``call_opaque``: an interrupt comes out of the loop when it has run."""

    def call(run: Callable[..., Any], arguments: Any, _kwargs: object) -> Any:
        if after:
            run(*arguments)
        raise LambdaTimeout

    return call


def test_a_task_that_had_ended_when_the_interrupt_landed_has_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop had not noticed; a finished result is never lost."""
    monkeypatch.setattr(_coroutines, "call_opaque", interrupted(after=True))

    assert as_function(answers)({}, None) == "answer"


def test_last_call_in_the_running_out_does_not_take_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the shield of that part is down again."""

    def last_call(_loop: object, _seconds: float) -> None:
        assert invocation.shields == 1
        raise LambdaTimeout

    now = time.monotonic()  # not long past, or the watchdog itself would fire
    invocation = Invocation(plan(), {}, None, now, now + 900.0, now + 897.0)
    monkeypatch.setitem(active, IDENT, invocation)
    monkeypatch.setattr(_coroutines, "run_out", last_call)

    assert as_function(answers)({}, None) == "answer"
    assert invocation.shields == 0
    assert IDENT not in coroutines


def test_a_loop_that_runs_at_exit_is_not_closed() -> None:
    """As where the process ends from within: it would raise."""
    closed: list[bool] = []
    for is_running in (True, False):
        loop: Any = SimpleNamespace(
            is_running=lambda is_running=is_running: is_running,
            close=lambda is_running=is_running: closed.append(is_running),
        )
        _coroutines._close(loop)

    assert closed == [False]
