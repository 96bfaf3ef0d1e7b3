"""``async def`` handlers: one loop, cancellation of the task, and the further interrupts."""

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
    """Clear what earlier tests have seen."""
    seen.clear()


def test_results_and_errors_are_passed_through_on_one_loop() -> None:
    """The handler's result or its own error reaches the caller, and both calls use one loop."""

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


def test_waiting_handler_is_cancelled_through_its_task() -> None:
    """A waiting handler sees CancelledError, its ``finally`` ends, and LambdaTimeout is raised."""

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


def test_location_is_the_awaited_coroutine() -> None:
    """Message and details name the coroutine that waits, though no thread's stack has it."""

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


def test_waiting_task_is_located_if_a_library_runs_the_loop() -> None:
    """If a library runs the loop, as Mangum does, the user's waiting task is still located.

    The thread's stack has no user code then, and the handler is not a coroutine.
    """
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


def test_awaited_library_counts_as_interrupted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An awaited library is recorded as interrupted, and the process is recycled.

    Its client may be in the middle of a protocol.
    """
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


def test_location_is_the_task_that_keeps_the_loop_busy() -> None:
    """If a task keeps the loop busy, it is the location, not the handler that waits for it."""

    async def busy() -> None:
        block()

    @watch(grace_period=0.2)
    async def handler(_event: object, _context: object) -> None:
        await asyncio.create_task(busy())

    with pytest.raises(LambdaTimeout, match=r"\(block\)$"):
        handler({}, Context(0.8))


def test_call_in_running_loop_is_refused() -> None:
    """A call in a running loop is refused with an explanation, and the next call succeeds."""

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


def test_cancelled_handler_can_return_the_answer() -> None:
    """A handler that catches CancelledError can return the answer."""

    @watch(grace_period=0.1)
    async def handler(_event: object, _context: object) -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    assert handler({}, Context(0.4)) == "partial"


def test_busy_coroutine_is_interrupted_directly() -> None:
    """In a coroutine that computes, the interrupt itself lands, as nothing can be cancelled."""

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


def test_interrupt_taken_by_background_task_is_followed_by_another(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If a background task takes the interrupt, the next one interrupts the handler.

    The loop stores the first one in the task, and lets the next kind through.
    """

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
    assert context.get_remaining_time_in_millis() > 100, "interrupted only at last call"
    capfd.readouterr()


@pytest.mark.parametrize("runs", ["own loop", "kept loop"])
def test_task_group_cleans_up_before_raising_the_interrupt(runs: str) -> None:
    """The tasks of a group clean up before the group raises the interrupt of one task.

    No code handles the interrupt meanwhile, because it is in the task that it landed in.
    """

    async def spin() -> None:
        while True:
            pass

    async def cleans_up() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            nudge = process_watchdog.nudge
            since = nudge.heard
            eventually(lambda: nudge.heard > since + 5, "the watchdog to try again")
            seen.append("cleaned up")
            raise

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(cleans_up())
            await asyncio.sleep(0)
            group.create_task(spin())

    if runs == "own loop":

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


def test_leftover_tasks_end_with_their_invocation() -> None:
    """Leftover tasks are cancelled and run to their end, in time or after a timeout.

    The next invocation starts without them.
    """

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


def test_task_refusing_cancellation_is_waited_for_once(capfd: pytest.CaptureFixture[str]) -> None:
    """A task that refuses its cancellation costs its invocation the time until last call.

    It never runs in a later one.
    """

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
    # It is cancelled again at last call, if last call's interrupt has cut the first attempt.
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


def test_timeout_in_gather_or_task_group_is_lambda_timeout() -> None:
    """The caller gets LambdaTimeout, whatever gather or a task group makes of a cancellation."""

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


def test_context_variables_are_inherited() -> None:
    """The handler's task sees context variables that were set outside."""
    variable = contextvars.ContextVar("variable", default="unset")

    @watch
    async def handler(_event: object, _context: object) -> str:
        return variable.get()

    variable.set("outside")

    assert handler({}, Context(5.0)) == "outside"


def test_async_methods_callables_and_partials_are_recognised() -> None:
    """Methods, callable objects and partials are recognised as async handlers."""

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


def test_async_handler_on_another_thread_has_its_own_loop() -> None:
    """In another thread an async handler has its own loop, and is interrupted as well."""
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
    """Leave a task in a loop, as Mangum and Powertools' async processor do."""
    task = event.create_task(waits())
    event.run_until_complete(asyncio.sleep(BOUND))
    task.cancel()


@pytest.mark.parametrize("handler", [awaits, runs, leaves_a_task])
def test_waiting_loop_on_another_thread_is_woken(handler: Any) -> None:
    """In another thread a loop that waits is woken, and its leftover tasks are run out.

    An injection alone would land only when the wait is over.
    """
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


class InterruptingSelector:
    """A loop's selector that raises the interrupts that are left, one for each look."""

    def __init__(self, selector: Any) -> None:
        self._selector = selector
        self.is_armed = False
        self.left: list[BaseException] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout: float | None = None) -> Any:
        # With a timeout of 0 callbacks are ready, among them the one that ends a run.
        if self.is_armed and self.left and timeout == 0:
            raise self.left.pop(0)
        return self._selector.select(timeout)


def test_run_interrupted_in_last_turn_leaves_next_run_intact() -> None:
    """An interrupt in a run's last turn does not end the next invocation's run.

    The timeout lands in the turn in which the handler's task has ended, and last call in the
    run-out, so that the callbacks that stop the loop stay in its queue.
    """
    struck = InterruptingSelector(None)

    @watch
    async def handler(event: str, _context: object) -> str:
        loop: Any = asyncio.get_running_loop()
        if event == "first":
            struck._selector, loop._selector = loop._selector, struck
            struck.is_armed = True
        else:
            await asyncio.sleep(0.001)  # needs more than one turn
            loop._selector = struck._selector  # later tests use this loop
        return event

    struck.left = [LambdaTimeout(), Interrupt()]

    assert handler("first", Context(5.0)) == "first"
    assert struck.left == []
    assert handler("second", Context(5.0)) == "second"
