"""``async def`` handlers: one loop, cancellation through the task, then the ladder."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import json
import re
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context, block, eventually
from watchdog_lambda import Interrupt, LambdaTimeout, Watchdog, watch
from watchdog_lambda._async import is_coroutine_function
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Generator

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Each test starts with an empty note."""
    seen.clear()


def test_result_error_and_loop_are_kept() -> None:
    """An answer, an error of its own, and the same loop for both invocations."""

    @watch
    async def handler(event: str, _context: object) -> str:
        seen.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        if event == "fail":
            raise KeyError("own")
        return event

    assert handler("ok", Context(5.0)) == "ok"
    with pytest.raises(KeyError, match="own"):
        handler("fail", Context(5.0))
    assert seen[0] is seen[1]


def test_a_waiting_handler_is_cancelled_through_its_task() -> None:
    """It sees CancelledError, its finally runs to the end, and the caller gets LambdaTimeout."""

    @watch(grace_period=0.2)
    async def handler(_event: object, _context: object) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.05)
            seen.append("cleaned")

    with pytest.raises(LambdaTimeout, match=r"in .*test_async\.py:\d+ \(handler\)"):
        handler({}, Context(0.8))

    assert seen == ["cancelled", "cleaned"]


def test_a_waiting_handler_is_located_by_what_it_awaits() -> None:
    """No thread's stack has a coroutine that waits; message and details name it all the same."""

    @types.coroutine
    def old_style() -> Generator[Any]:
        yield from asyncio.sleep(30).__await__()

    async def load_rows() -> None:
        await old_style()

    watchdog = Watchdog(grace_period=0.2)
    watchdog.shutdown_hook(seen.append)

    @watchdog.watch
    async def handler(_event: object, _context: object) -> None:
        await load_rows()

    place = r"tests/threads/test_async\.py:\d+ "
    with pytest.raises(LambdaTimeout, match=rf" in {place}\(old_style\)$"):
        handler({}, Context(0.8))

    [details] = seen
    assert re.fullmatch(rf"{place}\(old_style\)", details.location)
    functions = [re.sub(r".*\((.*)\)", r"\1", entry) for entry in details.stack]
    assert functions[-3:] == ["handler", "load_rows", "old_style"]


def test_a_library_that_runs_the_loop_is_looked_through() -> None:
    """As with Mangum: no user code in the thread's stack, and no coroutine for handler."""
    loop = asyncio.new_event_loop()

    async def load_rows() -> None:
        await asyncio.sleep(30)

    async def application() -> None:
        await load_rows()

    async def background() -> None:
        await asyncio.sleep(30)

    others: list[asyncio.Task[None]] = []

    def start() -> asyncio.Task[None]:
        others.append(loop.create_task(background(), name="Task-0"))
        return loop.create_task(application())

    library: dict[str, Any] = {"loop": loop, "start": start}
    source = "def handler(event, context):\n    loop.run_until_complete(start())\n"
    exec(compile(source, "/opt/site-packages/library.py", "exec"), library)  # noqa: S102
    watchdog = Watchdog(grace_period=0.2)
    watchdog.shutdown_hook(seen.append)

    place = r"tests/threads/test_async\.py:\d+ \(load_rows\)"
    try:
        with pytest.raises(LambdaTimeout, match=rf" in {place}$"):
            watchdog.watch(library["handler"])({}, Context(0.8))
    finally:
        loop.close()

    [details] = seen
    assert re.fullmatch(place, details.location)
    assert [re.sub(r".*\((.*)\)", r"\1", entry) for entry in details.stack[-3:]] == [
        "application",
        "load_rows",
        "sleep",
    ]


def test_a_library_that_is_awaited_is_where_it_was_interrupted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its client may be in the middle of something, so the process is not taken to be sound."""
    library: dict[str, Any] = {"sleep": asyncio.sleep}
    source = "async def query():\n    await sleep(30)\n"
    exec(compile(source, "/opt/site-packages/driver/core.py", "exec"), library)  # noqa: S102

    @watch(grace_period=0.2)
    async def handler(_event: object, _context: object) -> None:
        await library["query"]()

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.8))

    [line] = [line for line in capfd.readouterr().out.splitlines() if "watchdog.timeout" in line]
    assert "interrupted in driver" in json.loads(line)["recycled"]


def test_a_task_that_keeps_the_loop_busy_is_what_is_located() -> None:
    """The handler only waits for it; what runs is what one wants to know."""

    async def busy() -> None:
        block()

    @watch(grace_period=0.2)
    async def handler(_event: object, _context: object) -> None:
        await asyncio.create_task(busy())

    with pytest.raises(LambdaTimeout, match=r"\(block\)$"):
        handler({}, Context(0.8))


def test_a_call_where_a_loop_runs_is_refused_and_the_next_call_is_served() -> None:
    """An async test that calls a watched handler learns how to, and spoils nothing."""

    @watch
    async def handler(event: str, _context: object) -> str:
        await asyncio.sleep(0)
        return event

    async def test() -> None:
        with pytest.raises(RuntimeError, match=r"await handler\.__wrapped__"):
            handler("nested", Context(5.0))
        assert await asyncio.to_thread(handler, "aside", Context(5.0)) == "aside"

    asyncio.run(test())

    assert handler("next", Context(5.0)) == "next"


def test_what_a_cancelled_handler_returns_is_the_answer() -> None:
    """Catching CancelledError and returning is a way to answer."""

    @watch(grace_period=0.1)
    async def handler(_event: object, _context: object) -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    assert handler({}, Context(0.4)) == "partial"


def test_a_busy_coroutine_gets_the_timeout_itself() -> None:
    """Nothing awaits, so nothing can be cancelled: the interrupt lands in the coroutine."""

    @watch(grace_period=0.1)
    async def handler(_event: object, _context: object) -> None:
        number = 0
        try:
            while True:
                number += 1
        except TimeoutError:
            seen.append("timeout")
            raise
        finally:
            seen.append("cleaned")

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.4))

    assert seen == ["timeout", "cleaned"]


def test_a_background_task_that_takes_the_interrupt_does_not_save_the_handler(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The loop stores what lands in a task; the next rung is one that it lets through."""

    async def spin() -> None:
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            pass

    @watch(grace_period=0.3)
    async def handler(_event: object, _context: object) -> None:
        task = asyncio.create_task(spin())
        try:
            await asyncio.sleep(30)
        finally:
            seen.append(task.done())

    context = Context(1.2)
    with pytest.raises(LambdaTimeout):
        handler({}, context)

    assert seen == [True]
    assert context.get_remaining_time_in_millis() > 100, "not only at last call"
    capfd.readouterr()


@pytest.mark.parametrize("runs", ["its own loop", "the kept one"])
def test_a_group_has_the_others_clean_up_before_it_brings_the_interrupt(runs: str) -> None:
    """Nothing handles it meanwhile: it is in the task that it has landed in."""

    async def spin() -> None:
        while True:
            pass

    async def cleans_up() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            nudge = process_watchdog.nudge
            since = nudge.heard
            eventually(lambda: nudge.heard > since + 5, "the watchdog tries again")
            seen.append("cleaned up")
            raise

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(cleans_up())
            await asyncio.sleep(0)
            group.create_task(spin())

    if runs == "its own loop":

        @watch
        def handler(_event: object, _context: object) -> None:
            asyncio.run(work())
    else:

        @watch
        async def handler(_event: object, _context: object) -> None:
            await work()

    with pytest.raises(LambdaTimeout):
        handler({}, Context(4.0))

    assert seen == ["cleaned up"]


def test_tasks_left_behind_end_with_their_invocation() -> None:
    """Cancelled and run to their end, in time and after a timeout; the next one starts clean."""

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            seen.append(name)

    @watch(grace_period=0.1)
    async def handler(event: str, _context: object) -> int:
        seen.append(asyncio.create_task(linger(event)))
        await asyncio.sleep(30 if event == "hang" else 0)
        return len(asyncio.all_tasks())

    assert handler("first", Context(5.0)) == 2
    with pytest.raises(LambdaTimeout):
        handler("hang", Context(0.4))
    assert handler("last", Context(5.0)) == 2

    assert [name for name in seen if isinstance(name, str)] == ["first", "hang", "last"]


def test_a_task_that_refuses_its_end_is_waited_for_once(capfd: pytest.CaptureFixture[str]) -> None:
    """It costs its own invocation the time until last call, and never runs in a later one."""

    async def refuse() -> None:
        while not stop:
            turns.append(1)
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                seen.append("cancelled")

    @watch(grace_period=0.1)
    async def handler(event: str, _context: object) -> str:
        if event == "leave":
            seen.append(asyncio.create_task(refuse()))
            await asyncio.sleep(0)
        return event

    stop: list[bool] = []
    turns: list[int] = []
    assert handler("leave", Context(0.4)) == "leave"
    record = json.loads(capfd.readouterr().out)
    assert "refuse did not end" in record["recycled"]
    # Again at the end of it, if last call's interrupt has cut the first try.
    cancelled = seen[1:]
    del turns[:]
    try:
        for _ in range(3):
            assert handler("next", Context(5.0)) == "next"
        assert "watchdog.timeout" not in capfd.readouterr().out
        assert seen[1:] == cancelled
        assert cancelled[:1] == ["cancelled"]
        assert turns == []
    finally:
        stop.append(True)


def test_gather_and_task_groups_are_this_timeout() -> None:
    """Whatever asyncio makes of the cancellation, the caller gets LambdaTimeout."""

    @watch(grace_period=0.1)
    async def handler(event: str, _context: object) -> None:
        if event == "gather":
            await asyncio.gather(asyncio.sleep(30), asyncio.sleep(30), return_exceptions=True)
            await asyncio.sleep(30)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(30))

    for event in ("gather", "group"):
        with pytest.raises(LambdaTimeout):
            handler(event, Context(0.4))


def test_context_variables_set_outside_are_seen() -> None:
    """The task runs in a copy of the caller's context."""
    variable = contextvars.ContextVar("variable", default="unset")

    @watch
    async def handler(_event: object, _context: object) -> str:
        return variable.get()

    variable.set("outside")

    assert handler({}, Context(5.0)) == "outside"


def test_methods_partials_and_keywords() -> None:
    """Every form of an async handler is recognised, and called as it was."""

    class Service:
        @watch
        async def method(self, event: str, _context: object, *, mode: str = "fast") -> str:
            await asyncio.sleep(0)
            return event + mode

        async def __call__(self, event: str, _context: object) -> str:
            return event

    async def plain(event: str, _context: object) -> str:
        return event

    service = Service()

    assert service.method("a", Context(5.0), mode="b") == "ab"
    assert watch(service)("c", Context(5.0)) == "c"
    assert watch(functools.partial(plain))("d", Context(5.0)) == "d"
    assert is_coroutine_function(Service.__call__)
    assert not is_coroutine_function(json.dumps)
    assert not is_coroutine_function(max)


def test_off_the_main_thread_an_async_handler_has_a_loop_of_its_own() -> None:
    """And is interrupted where it runs bytecode."""
    outcome: list[Any] = []

    @watch(grace_period=0.1)
    async def handler(event: str, _context: object) -> str:
        seen.append(asyncio.get_running_loop())
        while event == "hang":  # noqa: ASYNC110 - bytecode now and then, to land in
            await asyncio.sleep(0.001)
        return event

    def work() -> None:
        outcome.append(handler("ok", Context(5.0)))
        try:
            handler("hang", Context(0.4))
        except LambdaTimeout as timeout:
            outcome.append(timeout)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    handler("ok", Context(5.0))

    assert outcome[0] == "ok"
    assert isinstance(outcome[1], LambdaTimeout)
    assert seen[0] is seen[1]
    assert seen[2] is not seen[0]
    seen[0].close()


async def waits() -> str:
    try:
        await asyncio.sleep(BOUND)
    finally:
        seen.append(type(sys.exception()))
    return "slept"


async def awaits(_event: object, _context: object) -> str:
    return await waits()


def runs(_event: object, _context: object) -> str:
    return asyncio.run(waits())


def leaves_a_task(event: asyncio.AbstractEventLoop, _context: object) -> None:
    """As Mangum does, and Powertools' async processor."""
    task = event.create_task(waits())
    event.run_until_complete(asyncio.sleep(BOUND))
    task.cancel()


@pytest.mark.parametrize("handler", [awaits, runs, leaves_a_task])
def test_off_the_main_thread_a_loop_that_waits_is_woken(handler: Any) -> None:
    """An injection alone would land when the wait is over. What is left in it is run out."""
    outcome: list[Any] = []

    def work() -> None:
        context = Context(1.0)
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            try:
                watch(handler)(loop, context)
            except LambdaTimeout:
                outcome.append(context.get_remaining_time_in_millis())
        outcome.append(watch(lambda event, _context: event)("next", Context(BOUND)))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()

    assert seen == [asyncio.CancelledError]
    in_time, after = outcome
    assert in_time > 0
    assert after == "next"


class Struck:
    """A loop's selector that an interrupt lands in, as often as there are instants left for it."""

    def __init__(self, selector: Any) -> None:
        self._selector = selector
        self.is_armed = False
        self.left: list[BaseException] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout: float | None = None) -> Any:
        # Where the loop only looks, callbacks wait for their turn: one that ends a run is there.
        if self.is_armed and self.left and timeout == 0:
            raise self.left.pop(0)
        return self._selector.select(timeout)


def test_a_run_that_was_cut_in_its_last_turn_does_not_end_the_next_invocations() -> None:
    """The timeout lands in the turn in which the handler's task has ended, and last call in ours.

    The callbacks that stop the loop stay in its queue, for the next invocation.
    """
    struck = Struck(None)

    @watch
    async def handler(event: str, _context: object) -> str:
        loop: Any = asyncio.get_running_loop()
        if event == "first":
            struck._selector, loop._selector = loop._selector, struck
            struck.is_armed = True
        else:
            await asyncio.sleep(0.001)  # needs more than one turn
            loop._selector = struck._selector  # the loop is kept for the tests to come
        return event

    struck.left = [LambdaTimeout(), Interrupt()]

    assert handler("first", Context(5.0)) == "first"
    assert struck.left == []
    assert handler("second", Context(5.0)) == "second"
