"""Tests of ``async def`` handlers: how they are recognised, how their task ends, and their loop."""

from __future__ import annotations

import asyncio
import atexit
import functools
import math
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import plan
from tests.unit.still_loop import StillLoop, cleanup, left_running, still
from watchdog_lambda import Interrupt, LambdaTimeout, _async
from watchdog_lambda._async import as_function, call_opaque, is_coroutine_function
from watchdog_lambda._cpython import loops
from watchdog_lambda._engine.current import active
from watchdog_lambda._engine.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["cleanup", "still"]

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Start each test with an empty list."""
    seen.clear()


@pytest.fixture
def kept(still: StillLoop, monkeypatch: pytest.MonkeyPatch) -> StillLoop:
    """Return the loop that is kept for this thread."""
    monkeypatch.setattr(_async, "_kept", {get_ident(): still})
    monkeypatch.setattr(_async, "_cut", set())
    return still


class UnderWay(Invocation):
    """An invocation at whose start the clock stands still.

    The process's own watchdog finds nothing due.
    """

    def __init__(self) -> None:
        super().__init__(plan(samples=0), None, None, 0.0, math.inf, math.inf)
        self.last_call_at = 50.0
        self.firing = None

    def timeline(self) -> Any:
        return SimpleNamespace(last_call_at=self.last_call_at, dump_at=math.inf)

    def elapsed(self) -> float:
        return 0.0


@pytest.fixture
def invocation() -> Iterator[UnderWay]:
    """Return the invocation of this thread."""
    invocation: Any = UnderWay()
    active[get_ident()] = invocation
    yield invocation
    del active[get_ident()]


# ---- what is an async handler ------------------------------------------------------------------


def test_coroutine_functions_are_recognised() -> None:
    """An async handler is recognised through any wrapper.

    Code that is not written in Python cannot be examined.
    """

    async def function() -> None: ...

    class Service:
        async def method(self) -> None: ...

        async def __call__(self) -> None: ...

    class Plain:
        def __call__(self) -> None: ...

    inner = functools.partial(function)
    inner.__dict__["note"] = "with one, it is not taken for what it has"
    outer = functools.partial(inner)
    assert outer.func is inner
    for is_one in (function, Service().method, Service(), outer):
        assert is_coroutine_function(is_one)
    for is_none in (Service, Plain(), Plain().__call__, functools.partial(max), max, names, 1):
        assert not is_coroutine_function(is_none)


def names() -> None: ...


def test_call_passes_arguments_value_and_exception() -> None:
    """A call passes on the arguments, the return value and the exception."""

    def handler(*args: object, **kwargs: object) -> object:
        if not args:
            raise StopIteration("own")
        return args, kwargs

    assert call_opaque(handler, (1, 2), {"three": 3}) == ((1, 2), {"three": 3})
    with pytest.raises(StopIteration, match="own"):
        call_opaque(handler, (), {})


# ---- how its task ends -------------------------------------------------------------------------


def test_handler_coroutine_is_registered_while_it_runs(kept: StillLoop) -> None:
    """The handler's own coroutine is registered while it runs, and its value is the answer."""

    async def handler(event: object, context: object) -> object:
        seen.append(loops.coroutines[get_ident()].cr_code.co_name)
        await asyncio.sleep(3)
        return event, context

    assert as_function(handler)("event", "context") == ("event", "context")

    assert seen == ["handler"]
    assert kept.now == 3.0
    assert get_ident() not in loops.coroutines


def test_call_in_running_loop_creates_no_coroutine(kept: StillLoop) -> None:
    """Where a loop runs already the call raises and creates no coroutine.

    It would never be awaited.
    """

    async def handler(_event: object, _context: object) -> None: ...

    def call() -> None:
        with pytest.raises(RuntimeError, match=r"await handler\.__wrapped__"):
            as_function(handler)({}, None)
        seen.append(get_ident() in loops.coroutines)

    kept.call_soon(call)
    loops.finish_turn(kept)

    assert seen == [False]


async def answers() -> str:
    return "answer"


async def fails() -> str:
    raise KeyError("own")


async def is_cancelled() -> str:
    raise asyncio.CancelledError


@pytest.mark.parametrize("interrupt", [LambdaTimeout, Interrupt])
@pytest.mark.parametrize(("end", "answer"), [(answers, "answer"), (fails, ""), (is_cancelled, "")])
def test_interrupt_after_task_end_keeps_its_value(
    kept: StillLoop,
    interrupt: type[BaseException],
    end: Callable[[], Any],
    answer: str,
) -> None:
    """If an interrupt lands in the turn after the task's end, the task's value is the answer.

    An interrupt replaces any other end of the task.
    """
    strike = interrupt()

    async def handler(_event: object, _context: object) -> Any:
        kept.strikes = [strike]
        return await end()

    if answer:
        assert as_function(handler)({}, None) == answer
    else:
        with pytest.raises(interrupt) as raised:
            as_function(handler)({}, None)
        assert raised.value is strike


@pytest.mark.parametrize("interrupt", [LambdaTimeout, Interrupt])
def test_interrupt_in_the_task_is_raised_through_it(
    kept: StillLoop, interrupt: type[BaseException]
) -> None:
    """An interrupt that lands in the task leaves through it.

    The task has ended then, so it is not cancelled.
    """
    strike = interrupt()

    async def handler(_event: object, _context: object) -> None:
        await asyncio.sleep(0)
        raise strike

    with pytest.raises(interrupt) as raised:
        as_function(handler)({}, None)

    assert raised.value is strike
    assert kept.now == 0.0


@pytest.mark.parametrize("interrupt", [LambdaTimeout, Interrupt])
@pytest.mark.parametrize("answer", ["partial", None])
def test_interrupt_while_the_loop_waits_cancels_the_task(
    kept: StillLoop, interrupt: type[BaseException], answer: str | None
) -> None:
    """An interrupt that lands while the loop waits cancels the task.

    If the task returns a value, that is the answer; if it ends by the cancellation, the
    interrupt is raised.
    """
    strike = interrupt()

    async def handler(_event: object, _context: object) -> object:
        kept.strikes = [strike]
        kept.call_soon(seen.append, "so that there is a turn after this one")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(3)
            if answer is None:
                raise
        return answer

    if answer:
        assert as_function(handler)({}, None) == answer
    else:
        with pytest.raises(interrupt) as raised:
            as_function(handler)({}, None)
        assert raised.value is strike
    assert kept.now == 3.0


@pytest.mark.usefixtures("cleanup")
def test_task_is_cancelled_if_its_loop_was_left_running(
    kept: StillLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task is cancelled even if an injection has ended its loop's run without the cleanup."""

    async def handler(_event: object, _context: object) -> object:
        kept.strikes = [LambdaTimeout()]
        kept.call_soon(seen.append, "so that there is a turn after this one")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            return "partial"
        return "complete"

    def run(task: Any) -> Any:
        try:
            return run_until_complete(task)
        except LambdaTimeout:
            left_running(kept)
            raise

    run_until_complete = kept.run_until_complete
    monkeypatch.setattr(kept, "run_until_complete", run)

    assert as_function(handler)({}, None) == "partial"


# ---- what is left behind -----------------------------------------------------------------------


async def lingers(note: Callable[[], object], seconds: float = 0.0) -> None:
    """Wait until cancelled, then wait so many seconds and note that they have passed."""
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(seconds)
        seen.append(note())


def test_leftover_tasks_end_behind_a_shield(kept: StillLoop, invocation: UnderWay) -> None:
    """Tasks that the handler has left are ended behind a shield.

    The handler has ended, so the timeout must not replace its answer.
    """

    async def handler(_event: object, _context: object) -> str:
        seen.append(asyncio.create_task(lingers(lambda: invocation.shields)))
        await asyncio.sleep(0)
        return f"shields: {invocation.shields}"

    assert as_function(handler)({}, None) == "shields: 0"

    assert seen[1:] == [1]
    assert invocation.shields == 0


def test_leftover_tasks_get_fixed_time_outside_an_invocation(kept: StillLoop) -> None:
    """Outside of an invocation remaining tasks get a fixed time to end.

    No deadline is known there.
    """

    async def handler(_event: object, _context: object) -> None:
        seen.append(asyncio.create_task(lingers(lambda: None, 20.0)))
        await asyncio.sleep(0)

    as_function(handler)({}, None)

    assert kept.now == 5.0


def test_leftover_tasks_have_until_last_call_in_an_invocation(
    invocation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an invocation remaining tasks have until last call to end."""
    monkeypatch.setattr(UnderWay, "elapsed", lambda _self: 30.0)
    invocation.last_call_at = 42.0

    assert _async._time_left(invocation) == 12.0


def test_task_that_refused_cancellation_is_not_cancelled_again(kept: StillLoop) -> None:
    """A task that has refused its cancellation is not cancelled or waited for again.

    Waiting would cost every later invocation its time.
    """

    async def refuses() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await refuses()

    async def handler(event: str, _context: object) -> str:
        if event == "leave":
            seen.append(asyncio.create_task(refuses()))
            await asyncio.sleep(0)
        return event

    watched = as_function(handler)
    assert [watched(event, None) for event in ("leave", "next", "next")] == [
        "leave",
        "next",
        "next",
    ]

    assert seen[1:] == ["cancelled"]
    assert kept.now == 5.0
    assert not seen[0].done()


def test_record_names_tasks_that_have_not_ended(kept: StillLoop, invocation: Any) -> None:
    """Tasks that have refused their end are added to those that the timeout's record names."""

    async def refuses() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await refuses()

    async def handler(_event: object, _context: object) -> None:
        invocation.firing = SimpleNamespace(unended=["earlier"])
        seen.append(asyncio.create_task(refuses()))
        await asyncio.sleep(0)

    as_function(handler)({}, None)

    assert kept.now == invocation.last_call_at
    assert len(invocation.firing.unended) == 2
    assert refuses.__name__ in invocation.firing.unended[1]


@pytest.mark.parametrize("interrupt", [LambdaTimeout, Interrupt])
def test_last_call_ends_the_wait_and_keeps_the_next_run_intact(
    kept: StillLoop, invocation: UnderWay, interrupt: type[BaseException]
) -> None:
    """Last call ends the wait for tasks without changing the answer.

    What the cut run has left in the loop is removed before the next run.
    """

    async def handler(event: str, _context: object) -> str:
        if event == "cut":
            # The first lands in the turn after this one and leaves the loop's stop queued; the
            # second lands in the next run.
            kept.strikes = [LambdaTimeout(), interrupt()]
        else:
            await asyncio.sleep(3)
        return event

    watched = as_function(handler)

    assert watched("cut", None) == "cut"
    assert kept.strikes == []
    assert invocation.shields == 0
    assert get_ident() not in loops.coroutines
    assert _async._cut == {get_ident()}
    assert watched("next", None) == "next"
    assert _async._cut == set()


# ---- the loop that is kept ---------------------------------------------------------------------


def test_loop_is_created_once_and_kept(kept: StillLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One loop is made and kept until it is closed.

    It is its thread's current one, and is closed with the process.
    """
    registered: list[Any] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    assert _async._loop() is kept
    assert registered == []

    kept.close()
    try:
        loop = _async._loop()

        assert loop is not kept
        assert _async._loop() is loop
        assert asyncio.get_event_loop() is loop
        [(close, given)] = registered
        assert given is loop
        loop.call_soon(close, loop)
        loops.finish_turn(loop)
        assert not loop.is_closed(), "a running loop was closed"
        close(loop)
        assert loop.is_closed()
    finally:
        loop.close()
        asyncio.set_event_loop(None)


def test_thread_without_a_loop_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has no loop gets a loop of its own."""
    monkeypatch.setattr(_async, "_kept", {})
    monkeypatch.setattr(atexit, "register", lambda *_call: None)

    loop = _async._loop()

    assert _async._kept == {get_ident(): loop}
    loop.close()
    asyncio.set_event_loop(None)
