"""Tests of rare interleavings in a batch; tests/threads has whole batches."""

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
    """Return a stand-in for the withdrawal, in which an interrupt lands that was on its way."""

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
def test_interrupt_landing_in_cover_keeps_the_shield(
    error: type[BaseException],
) -> None:
    """If an interrupt lands while a batch shields itself, the shield is kept.

    The next look at the time ends the batch.
    """
    watch = watching(landing(error))

    watch.cover()

    assert watch.invocation.shields == 1


def test_record_whose_handler_returned_is_done() -> None:
    """A record whose handler had returned is done.

    An interrupt that lands later is not the record's own, and is raised where the batch shields
    itself again.
    """

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


def test_last_call_in_one_run_out_leaves_other_loops_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A last call that interrupts the end of one loop leaves the other loops their turn.

    Each has until last call; a loop without any time left is given up.
    """
    tried: list[object] = []

    def run_out(loop: object, _seconds: float, _unended: object) -> None:
        tried.append(loop)
        raise LambdaTimeout

    monkeypatch.setattr(_watch, "run_out", run_out)
    loops: list[Any] = [object(), object()]

    watching().run_out(loops)

    assert tried == loops


def test_record_ending_after_its_batch_is_cancelled() -> None:
    """A record that ends after its batch is cancelled at its end.

    This happens with a loop, such as uvloop, that cannot be stopped there. The next batch uses
    the same processor.
    """
    run = AsyncRun(watching())
    run.is_over = True

    async def record(**_: object) -> str:
        return "done"

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run.opened(record)())


def test_run_without_tasks_has_no_loop() -> None:
    """A run in which no task has begun has no loop, for example if no record fits its model."""
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
