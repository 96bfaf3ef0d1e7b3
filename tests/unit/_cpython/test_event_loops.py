"""Event loops: which one runs, what is awaited there, and running out leftover tasks."""

from __future__ import annotations

import asyncio
import gc
import selectors
import sys
import threading
import types
from _thread import get_ident
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND
from tests.unit.still_loop import BASE, StillLoop, clean_up, cleanup, left_running, still
from watchdog_lambda import Interrupt, LambdaTimeout
from watchdog_lambda._cpython import loops
from watchdog_lambda._cpython import tasks as tasks_
from watchdog_lambda._cpython.loops import (
    cleans_up,
    end_run,
    finish_turn,
    run_out,
    running_loop,
    waits_in_c,
    with_awaited,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from watchdog_lambda._cpython.stacks import Stack

__all__ = ["cleanup", "still"]

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Clear what earlier tests have seen."""
    seen.clear()


# ---- the running loop --------------------------------------------------------------------------


def test_running_loop_is_that_of_the_callback(
    still: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``running_loop`` returns the loop in a callback, and None outside or without asyncio."""
    assert running_loop() is None
    still.call_soon(lambda: seen.append(running_loop()))
    finish_turn(still)
    assert seen == [still]

    monkeypatch.delitem(sys.modules, "asyncio.events")
    assert running_loop() is None


class CLoop(StillLoop):
    """A loop with a class of uvloop's module."""


CLoop.__module__ = "uvloop.loop"


@pytest.mark.parametrize(("kind", "in_a_callback"), [(CLoop, True), (StillLoop, False)])
def test_only_callback_of_c_loop_waits_in_c(kind: type[StillLoop], *, in_a_callback: bool) -> None:
    """Only a callback of a loop in C waits in C: no task, no asyncio loop, and no other code."""

    async def task() -> None:
        seen.append(waits_in_c())

    loop = kind()
    loop.call_soon(lambda: seen.append(waits_in_c()))
    loop.run_until_complete(task())
    loop.close()

    assert seen == [in_a_callback, False]
    assert not waits_in_c()


def test_cancelled_task_cleans_up_until_it_ends(
    still: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task cleans up from its cancellation until it ends, if the loop can list its tasks."""

    async def look() -> list[bool]:
        task = asyncio.create_task(lingers("ended"))
        await asyncio.sleep(0)
        told = [cleans_up()]
        task.cancel()
        told.append(cleans_up())
        with pytest.raises(asyncio.CancelledError):
            await task
        told.append(cleans_up())
        monkeypatch.setattr(asyncio, "all_tasks", lambda _loop: None)
        return [*told, cleans_up()]

    assert not cleans_up()
    assert still.run_until_complete(look()) == [False, True, False, False]


# ---- runs without an end -----------------------------------------------------------------------


@pytest.mark.usefixtures("cleanup")
def test_end_run_unmarks_the_loop(still: StillLoop) -> None:
    """After ``end_run`` the loop is not marked as running, and this thread can run any loop."""
    left_running(still)

    end_run(still)

    assert not still.is_running()
    assert running_loop() is None
    assert_next_run_is_not_stopped(still)


@pytest.mark.usefixtures("cleanup")
def test_loop_left_running_is_run_out(still: StillLoop) -> None:
    """Tasks of a loop that was left running are run out."""
    left_in(still, lingers("task"))
    left_running(still)

    run_out(still, 5.0)

    assert seen == ["task"]


def test_end_run_does_nothing_without_cleanup_function(
    still: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Python without the cleanup function, ``end_run`` does nothing."""
    monkeypatch.delattr(BASE, "_run_forever_cleanup", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(StillLoop, "is_running", lambda _loop: True)
        end_run(still)


@pytest.mark.usefixtures("cleanup")
def test_loop_running_below_stays_running(still: StillLoop) -> None:
    """A loop that really runs, further down in the stack, stays marked as running."""

    def look() -> None:
        end_run(still)
        seen.append(still.is_running())

    still.call_soon(look)
    finish_turn(still)

    assert seen == [True]
    end_run(still)  # one that does not run is left alone as well


class LoopOfItsOwn(StillLoop):
    """A loop with a ``run_forever`` of its own, as Qt's: its run has no asyncio frame."""

    def run_forever(self) -> None:
        """Return at once; the loop is only marked as running."""


@pytest.mark.usefixtures("cleanup")
def test_loop_with_own_run_forever_is_left_alone(
    still: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop is left alone if its own class or a library has replaced asyncio's ``run_forever``.

    Whether it runs cannot be seen in the stack.
    """
    own = LoopOfItsOwn()
    with monkeypatch.context() as patch:
        patch.setattr(StillLoop, "is_running", lambda _loop: True)
        patch.setattr(BASE, "_run_forever_cleanup", lambda _loop: seen.append("ended"))
        end_run(own)
        assert seen == []
        end_run(still)
        assert seen == ["ended"]
        patch.setattr(BASE, "run_forever", lambda _loop: None)
        end_run(still)
    own.close()

    assert seen == ["ended"]


@pytest.mark.usefixtures("cleanup")
@pytest.mark.parametrize(("parent", "ends"), [(None, True), (object(), False)])
def test_loop_in_greenlet_is_left_alone(
    still: StillLoop, monkeypatch: pytest.MonkeyPatch, parent: object, *, ends: bool
) -> None:
    """In a greenlet the loop may run further down, so it is left alone.

    SQLAlchemy runs plain functions so, and the greenlet's own stack ends before the loop.
    """
    greenlet = types.SimpleNamespace(getcurrent=lambda: types.SimpleNamespace(parent=parent))
    monkeypatch.setitem(sys.modules, "greenlet", greenlet)
    left_running(still)

    end_run(still)

    assert still.is_running() != ends
    clean_up(still)


# ---- running out -------------------------------------------------------------------------------


async def lingers(name: str, turns: int = 0, seconds: float = 0.0) -> None:
    """Wait until cancelled, and then take that many turns and seconds."""
    try:
        await asyncio.sleep(1000)
    finally:
        for _ in range(turns):
            await asyncio.sleep(0)
        if seconds:
            await asyncio.sleep(seconds)
        seen.append(name)


def left_in(loop: StillLoop, *coroutines: Any) -> list[asyncio.Task[Any]]:
    """Return a task for each coroutine, after it has begun."""
    tasks = [loop.create_task(coroutine) for coroutine in coroutines]
    finish_turn(loop)
    return tasks


def assert_next_run_is_not_stopped(loop: StillLoop) -> None:
    assert loop.run_until_complete(asyncio.sleep(500, "the next one")) == "the next one"


def test_finish_turn_runs_only_one_turn(still: StillLoop) -> None:
    """One turn runs the callbacks that are ready, and not those that they schedule."""
    still.call_soon(lambda: still.call_soon(seen.append, "next turn"))
    still.call_soon(seen.append, "this turn")

    finish_turn(still)

    assert seen == ["this turn"]
    finish_turn(still)
    assert seen == ["this turn", "next turn"]
    assert still.now == 0.0


def test_interrupted_turn_does_not_stop_later_run(still: StillLoop) -> None:
    """A turn that an interrupt cut leaves a stop callback, which ends no later run."""
    still.strikes = [LambdaTimeout()]
    with pytest.raises(LambdaTimeout):
        finish_turn(still)

    assert_next_run_is_not_stopped(still)


def test_tasks_are_cancelled_and_run_to_their_end(still: StillLoop) -> None:
    """Tasks are cancelled and run to their end, however long they take within the limit."""
    tasks = left_in(still, lingers("long", seconds=3.0), lingers("short", turns=5))

    run_out(still, 5.0)

    assert seen == ["short", "long"]
    assert all(task.cancelled() for task in tasks)
    assert still.now == 3.0
    assert still.timers() == [], "a timer of run_out is left, and would wake a later run"
    assert_next_run_is_not_stopped(still)


def test_leftover_stop_callback_does_not_end_run_out_early(still: StillLoop) -> None:
    """A stop callback that the handler's run has left does not end the cleanup early."""
    left_in(still, lingers("cleaned up", turns=5))
    still.call_soon(still.stop)

    run_out(still, 5.0)

    assert seen == ["cleaned up"]


def test_failing_task_does_not_end_other_tasks(still: StillLoop) -> None:
    """A task that fails keeps its error, and the other tasks run to their end."""

    async def fails() -> None:
        try:
            await lingers("failed", turns=2)
        finally:
            raise KeyError("own")

    failing, _ = left_in(still, fails(), lingers("cleaned up", seconds=3.0))

    run_out(still, 5.0)

    assert seen == ["failed", "cleaned up"]
    assert isinstance(failing.exception(), KeyError)


def test_tasks_get_only_the_remaining_time(still: StillLoop) -> None:
    """Tasks that need more time than is left do not continue in the loop's next run."""
    [slow] = left_in(still, lingers("cleaned up", seconds=20.0))

    run_out(still, 5.0)

    assert (still.now, slow.done()) == (5.0, False)
    assert_next_run_is_not_stopped(still)
    assert not slow.done()


@pytest.mark.parametrize("seconds", [0.0, -3.0])
def test_tasks_get_one_turn_without_remaining_time(still: StillLoop, seconds: float) -> None:
    """With no time left, tasks get one turn, and one more to see whether they have ended."""
    [slow, quick] = left_in(still, lingers("slow", seconds=0.5), lingers("quick"))

    run_out(still, seconds)

    assert (still.now, slow.done(), quick.done()) == (0.0, False, True)
    assert_next_run_is_not_stopped(still)
    assert not slow.done()


@pytest.mark.parametrize("turns", [0, 1])
def test_run_out_ends_when_all_tasks_have_ended(still: StillLoop, turns: int) -> None:
    """Running out ends at once when all tasks have ended, in the first or second turn."""
    left_in(still, lingers("cleaned up", turns=turns))

    run_out(still, 5.0)
    run_out(still, 5.0)

    assert seen == ["cleaned up"]
    assert still.now == 0.0


def test_callbacks_scheduled_at_task_end_are_run(still: StillLoop) -> None:
    """Callbacks that a task's end schedules soon are run, such as a transport's close."""

    async def closes() -> None:
        try:
            await lingers("cleaned up", turns=1)
        finally:
            call_in_turns(3)

    def call_in_turns(left: int) -> None:
        if left:
            still.call_soon(call_in_turns, left - 1)
        else:
            seen.append("closed")

    left_in(still, closes())

    run_out(still, 5.0)

    assert seen == ["cleaned up", "closed"]


def test_interrupted_run_out_does_not_stop_later_run(still: StillLoop) -> None:
    """If running out is interrupted, neither the task nor the timer affects a later run."""
    [slow] = left_in(still, lingers("cleaned up", turns=2, seconds=20.0))
    still.call_soon(lambda: still.call_soon(still.strikes.append, LambdaTimeout()))

    with pytest.raises(LambdaTimeout):
        run_out(still, 5.0)

    assert_next_run_is_not_stopped(still)
    assert not slow.done()


@pytest.mark.parametrize("waits_for", ["a timer", "next turn", "a future"])
def test_task_ignoring_cancellation_never_runs_again(still: StillLoop, waits_for: str) -> None:
    """A task that refuses its cancellation never runs again.

    It runs neither in a later run of its loop, nor when it is woken, nor when it is collected.
    """
    future = still.create_future()
    turns: list[str] = []

    async def refuses() -> None:
        while not is_over:
            turns.append(waits_for)
            try:
                if waits_for in {"a timer", "next turn"}:
                    await asyncio.sleep(0.1 if waits_for == "a timer" else 0)
                else:
                    await asyncio.shield(future)
            except BaseException:
                turns.append("refused")

    is_over: list[bool] = []
    [task] = left_in(still, refuses())
    unended: list[str] = []

    run_out(still, 5.0 if waits_for != "next turn" else 0.0, unended)

    assert "refused" in turns
    assert [name.rpartition(".")[2] for name in unended] == ["refuses"]
    assert asyncio.all_tasks(still) == set()
    del turns[:]
    task.cancel()
    future.set_result(None)
    del task
    gc.collect()
    still.run_until_complete(asyncio.sleep(10))
    run_out(still, 5.0, unended)
    assert turns == []
    assert len(unended) == 1
    is_over.append(True)  # let it end at the process's exit


def test_task_started_during_run_out_ends_with_it(still: StillLoop) -> None:
    """A task that begins while another one ends does not run in the next invocation."""
    begun: list[Any] = []

    async def ends() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            begun.append(asyncio.create_task(lingers("too late")))

    left_in(still, ends())
    unended: list[str] = []

    run_out(still, 5.0, unended)

    assert unended == ["lingers"]
    assert not begun[0].done()
    still.run_until_complete(asyncio.sleep(7200))
    assert not begun[0].done()


def test_tasks_of_interrupted_run_out_never_run_again(still: StillLoop) -> None:
    """After last call has cut a run-out, its tasks and async generators never run again."""
    [task] = left_in(still, lingers("cut"))

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            seen.append("closed")

    async def opens() -> AsyncIterator[int]:
        opened = numbers()
        await anext(opened)
        return opened

    opened = still.run_until_complete(opens())
    still.strikes = [Interrupt("last call")]
    unended: list[str] = []

    with pytest.raises(Interrupt):
        run_out(still, 5.0, unended)

    assert unended == ["lingers"]
    del opened
    gc.collect()
    finish_turn(still)
    still.run_until_complete(asyncio.sleep(7200))
    assert not task.done()
    assert seen == []


def test_running_or_closed_loop_is_not_run_out(still: StillLoop) -> None:
    """A loop that runs or is closed is not run out."""

    async def main() -> None:
        run_out(still, 5.0)
        await asyncio.sleep(0)
        seen.append("went on")

    still.run_until_complete(main())
    assert seen == ["went on"]

    still.close()
    run_out(still, 5.0)


# ---- what is awaited ---------------------------------------------------------------------------


class Own:
    """A source map for which functions with these names are the user's own code."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def has_own(self, stack: Stack) -> bool:
        return any(name in self._names for _, _, name in stack)


def names(stack: Stack) -> list[str]:
    return [function for _, _, function in stack]


async def outer() -> None:
    await inner()


async def inner() -> None:
    await old_style()


@types.coroutine
def old_style() -> Generator[Any]:
    yield


@pytest.fixture
def waiting() -> Iterator[Any]:
    """Return a suspended coroutine: ``outer`` awaits ``inner``, which awaits ``old_style``."""
    coroutine = outer()
    coroutine.send(None)
    yield coroutine
    coroutine.close()


def test_awaited_stack_lists_each_awaited_coroutine(waiting: Any) -> None:
    """The stack of a coroutine has the line that each one waits in, innermost first."""
    stack = tasks_.awaited_stack(waiting)

    assert stack == [
        (__file__, old_style.__code__.co_firstlineno + 2, "old_style"),
        (__file__, inner.__code__.co_firstlineno + 1, "inner"),
        (__file__, outer.__code__.co_firstlineno + 1, "outer"),
    ]
    assert names(tasks_.awaited_stack(waiting.cr_await.cr_await)) == ["old_style"]


def test_unknown_line_is_zero() -> None:
    """The line is 0 in code without line numbers."""
    function = types.FunctionType(old_style.__code__.replace(co_linetable=b""), {})
    generator = function()
    next(generator)

    assert tasks_.awaited_stack(generator) == [(__file__, 0, "old_style")]


def test_awaited_stack_depth_is_limited(waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long chain of awaits is followed from its outer end, up to a limit."""
    monkeypatch.setattr(tasks_, "MOST_OWN_FRAMES", 2)

    assert names(tasks_.awaited_stack(waiting)) == ["inner", "outer"]


def test_running_or_ended_coroutine_has_no_awaited_stack(waiting: Any) -> None:
    """A running or ended coroutine has no awaited stack, and neither has another object."""
    running: Any = None

    async def looks() -> None:
        seen.append(tasks_.awaited_stack(running))

    running = looks()
    with pytest.raises(StopIteration):
        running.send(None)
    waiting.close()

    assert seen == [[]]
    assert tasks_.awaited_stack(waiting) == []
    assert tasks_.awaited_stack(object()) == []


def test_stack_without_user_code_is_extended_by_awaited(
    waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack without user code is extended by what is awaited, the handler's coroutine first.

    A stack that has some stays as it is.
    """
    ident = get_ident()
    stack: Stack = [("selectors.py", 1, "select")]
    monkeypatch.setitem(loops.coroutines, ident, waiting)

    def told(code: Any) -> list[str]:
        return names(with_awaited(stack, ident, code))

    assert told(Own("outer")) == ["old_style", "inner", "outer", "select"]
    assert told(Own("select", "outer")) == ["select"]
    assert told(Own("unrelated")) == ["select"]


def test_ended_handler_coroutine_is_left_out(waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler's coroutine is left out once it has ended."""
    monkeypatch.setitem(loops.coroutines, get_ident(), waiting)
    assert [names(stack) for stack in loops._awaited(get_ident())] == [
        ["old_style", "inner", "outer"]
    ]

    waiting.close()

    assert list(loops._awaited(get_ident())) == []


def test_gc_is_disabled_while_frames_are_held(
    waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector is off while frames are held, and on afterwards.

    On 3.11 a collection that begins meanwhile can crash.
    """

    class Walked(dict[Any, Any]):
        def get(self, *key: Any) -> Any:
            seen.append(gc.isenabled())
            return super().get(*key)

    def frame_of(_ident: int) -> None:
        seen.append(gc.isenabled())

    monkeypatch.setattr(tasks_, "_AWAITED", Walked(tasks_._AWAITED))
    monkeypatch.setattr(loops, "frame_of", frame_of)
    tasks_.awaited_stack(waiting)
    loops.loop_in(get_ident())

    assert seen == [False] * 5
    assert gc.isenabled()


async def waits(deeper: int) -> None:
    await (waits(deeper - 1) if deeper else asyncio.sleep(1000))


async def waits_longer() -> None:
    await waits(1)


def in_a_loop(loop: StillLoop, function: Callable[[], object]) -> None:
    """Call the function in a callback, where no task runs."""
    loop.call_soon(function)
    finish_turn(loop)


@pytest.fixture
def busy(still: StillLoop) -> Iterator[StillLoop]:
    """Return a loop with tasks that wait at several depths, with names in no order."""
    tasks = [
        still.create_task(waits(depth), name=f"{(number * 7) % 10}, depth {depth}")
        for number in range(10)
        for depth in (0, 1)
    ]
    tasks.append(still.create_task(waits_longer(), name="9, deepest"))
    finish_turn(still)
    yield still
    for task in tasks:
        task.cancel()
    finish_turn(still)


def test_deepest_waiting_task_comes_first(busy: StillLoop) -> None:
    """The task that waits the deepest comes first, because its stack says the most."""
    in_a_loop(busy, lambda: seen.extend(loops._awaited(get_ident())))

    assert names(seen[0]) == ["sleep", "waits", "waits", "waits_longer"]
    assert [len(stack) for stack in seen] == [4, *[3] * 10, *[2] * 10]


def test_tasks_of_equal_depth_are_sorted_by_name(
    busy: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks of one depth are sorted by name, because the order of a set varies."""
    told: list[str] = []

    def chain(coroutine: object) -> Stack:
        [name] = [t.get_name() for t in asyncio.all_tasks(busy) if t.get_coro() is coroutine]
        told.append(name)
        return []

    monkeypatch.setattr(loops, "awaited_stack", chain)
    in_a_loop(busy, lambda: list(loops._awaited(get_ident())))

    assert len(told) == 21
    assert told == sorted(told)


def test_loop_of_any_kind_is_found_in_its_own_thread(busy: StillLoop) -> None:
    """In its own thread a loop of any kind is found, because asyncio says which one runs."""
    asyncio._set_running_loop(busy)
    try:
        assert len(list(loops._awaited(get_ident()))) == 21
    finally:
        asyncio._set_running_loop(None)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_loop_that_cannot_list_tasks_has_none(
    still: StillLoop, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A loop whose tasks cannot be listed has none.

    It may not be asyncio's, or create tasks all the time.
    """

    def all_tasks(_loop: object) -> object:
        raise error

    monkeypatch.setattr(asyncio, "all_tasks", all_tasks)
    in_a_loop(still, lambda: seen.append(list(loops._awaited(get_ident()))))

    assert seen == [[]]


def test_loop_in_another_thread_is_found_by_its_frame(
    busy: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop in another thread is found by the frame that runs it.

    Without asyncio, or if the thread runs no loop or has ended, none is found.
    """
    there, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        there.set()
        go_on.wait(BOUND)

    for target, expected in (lambda: in_a_loop(busy, wait), busy), (wait, None):
        there.clear()
        go_on.clear()
        thread = threading.Thread(target=target)
        thread.start()
        assert there.wait(BOUND)
        ident = thread.ident or 0
        try:
            assert loops.loop_in(ident) is expected
            assert len(list(loops._awaited(ident))) == (21 if expected else 0)
            with monkeypatch.context() as patch:
                patch.delitem(sys.modules, "asyncio.base_events")
                assert loops.loop_in(ident) is None
        finally:
            go_on.set()
            thread.join()

    assert loops.loop_in(ident) is None


class Waits(selectors.DefaultSelector):
    """A selector that sets an event before each wait."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        super().__init__()

    def select(self, timeout: float | None = None) -> Any:
        self.waits.set()
        return super().select(timeout)


def test_loop_waiting_in_another_thread_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits in another thread is woken, and waits again.

    An error of the wake-up is ignored.
    """

    def refuse(*_: object) -> None:
        raise RuntimeError("Event loop is closed")

    selector = Waits()
    loop = asyncio.SelectorEventLoop(selector)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert selector.waits.wait(BOUND)
        selector.waits.clear()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", refuse)
            loops.wake(loop)
            assert not selector.waits.is_set()

        loops.wake(loop)
        assert selector.waits.wait(BOUND)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(BOUND)
        loop.close()
