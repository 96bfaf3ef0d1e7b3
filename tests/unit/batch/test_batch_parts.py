"""Instants of a batch that only chance brings about; whole batches are in tests/threads."""

from __future__ import annotations

import asyncio
from _thread import RLock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import plan
from watchdog_lambda import Interrupt, LambdaTimeout
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda.batch import _watch
from watchdog_lambda.batch._async import AsyncRun
from watchdog_lambda.batch._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable


def landing(error: type[BaseException]) -> Callable[[], bool]:
    """Stands in for the withdrawal: what was injected has landed on the way."""

    def withdraw() -> bool:
        raise error

    return withdraw


def watching(withdraw: Callable[[], bool] | None = None) -> Watch:
    invocation = Invocation(plan(), {}, None, 0.0, 30.0, 27.0)
    if withdraw is not None:
        invocation.firing = SimpleNamespace(  # type: ignore[assignment]
            lock=RLock(), withdraw=withdraw, loops=[], unended=[]
        )
    return Watch(invocation)


@pytest.mark.parametrize("error", [LambdaTimeout, Interrupt])
def test_an_interrupt_that_lands_while_it_is_covered_leaves_it_covered(
    error: type[BaseException],
) -> None:
    """The next look at the time ends the batch."""
    watch = watching(landing(error))

    watch.cover()

    assert watch.invocation.shields == 1


def test_a_record_whose_handler_had_returned_is_done() -> None:
    """What lands after it is not its own, and is raised where it covers itself again."""

    class Late:
        shields = 0

        @property
        def firing(self) -> None:
            raise LambdaTimeout

    watch = watching()
    watch.cover()

    def handler(record: str) -> str:
        watch.invocation = Late()  # type: ignore[assignment]
        return record + " is done"

    assert watch.opened(handler)(record="one") == "one is done"


def test_last_call_in_the_running_out_of_a_loop_leaves_the_others_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has until last call, and what has no time left is given up."""
    tried: list[object] = []

    def run_out(loop: object, _seconds: float, _unended: object) -> None:
        tried.append(loop)
        raise LambdaTimeout

    monkeypatch.setattr(_watch, "run_out", run_out)
    loops: list[Any] = [object(), object()]

    watching().run_out(loops)

    assert tried == loops


def test_a_record_that_ends_after_its_batch_is_cancelled_at_its_end() -> None:
    """As where a loop (uvloop) does not let it be stopped: its processor is the next batch's."""
    run = AsyncRun(watching())
    run.is_over = True

    async def record(**_: object) -> str:
        return "done"

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run.opened(record)())


def test_a_run_that_no_task_has_begun_in_has_no_loop() -> None:
    """As where all of its records fail their model."""
    run = AsyncRun(watching(lambda: False))

    async def begin_in_a_callback() -> None:
        called = asyncio.Event()

        def call() -> None:
            run.begin()
            called.set()

        asyncio.get_running_loop().call_soon(call)
        await called.wait()

    asyncio.run(begin_in_a_callback())
    run.end()

    assert (run.loop, run.tasks) == (None, [])
