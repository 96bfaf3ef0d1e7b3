"""catch_timeout catches this invocation's timeout in each of its forms, and no other error."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import Context, block
from tests.unit.frames import made
from watchdog_lambda import Interrupt, LambdaTimeout, TimeoutDetails, catch_timeout, watch
from watchdog_lambda.testing import FakeContext, async_expire, expire, timeout_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog_lambda.typing import InterruptKind


READS = """
def call(back):
    try: back()
    except (TimeoutError, BaseException) as error: raise ConnectionError("timed out") from error
"""
WRITES = """
def call(back):
    try: back()
    except BaseException: raise ConnectionError("broken pipe")
"""
GROUPS = """
def call(back):
    try: back()
    except BaseException as error:
        raise BaseExceptionGroup("of a task group", [ValueError("another"), error]) from None
"""
LIBRARIES = [functools.partial(made(source), expire) for source in (READS, WRITES, GROUPS)]
"""Functions that turn the interrupt into an error of their own, as urllib3 and asyncio do."""


@pytest.mark.parametrize("interrupt", ["timeout-error", "base"])
@pytest.mark.parametrize("work", [expire, *LIBRARIES])
def test_timeout_in_any_form_ends_the_block(
    work: Callable[[], None], interrupt: InterruptKind
) -> None:
    """In each of its forms the timeout ends the block.

    The handler goes on, and can tell that it happened.
    """

    @watch(interrupt=interrupt)
    def handler(_event: object, _context: object) -> str:
        with catch_timeout() as timeout:
            work()
            raise AssertionError("no interrupt landed in time")
        if timeout:
            assert isinstance(timeout.details, TimeoutDetails)
            return f"partial, after {timeout.details.elapsed:.0f} s"
        raise AssertionError("not reached")

    with timeout_records() as records:
        assert handler({}, FakeContext()) == "partial, after 27 s"
    assert [record["outcome"] for record in records] == ["returned"]
    assert len(records[0]["interrupts"]) == 1


def test_block_that_ends_in_time_catches_nothing() -> None:
    """A block that ends in time, outside of an invocation or on another thread catches nothing."""
    seen: list[catch_timeout] = []

    def use() -> None:
        with catch_timeout() as timeout:
            pass
        seen.append(timeout)

    @watch
    def handler(_event: object, _context: object) -> None:
        use()
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    use()
    handler({}, FakeContext())

    assert len(seen) == 3
    assert not any(seen)
    assert [timeout.details for timeout in seen] == [None] * 3


@pytest.mark.parametrize(
    "error",
    [TimeoutError("another"), LambdaTimeout("made by hand"), ValueError("x"), SystemExit(3)],
)
@pytest.mark.parametrize("late", [False, True])
def test_other_error_leaves_the_block(error: BaseException, *, late: bool) -> None:
    """An error of the handler's own leaves the block, before the timeout and after it."""

    @watch
    def handler(_event: object, _context: object) -> None:
        if late:
            with catch_timeout() as timeout:
                expire()
            assert timeout
        with catch_timeout():
            raise error

    with pytest.raises(type(error)) as caught:
        handler({}, FakeContext())
    assert caught.value is error


def test_reused_block_reports_its_last_run() -> None:
    """An object tells whether the timeout has ended the last block that it was used for."""
    timeout = catch_timeout()
    assert not timeout

    @watch
    def handler(_event: object, _context: object) -> None:
        with timeout:
            expire()
        assert timeout
        with timeout:
            pass
        assert not timeout

    handler({}, FakeContext())


def test_error_while_handling_the_timeout_leaves_the_block() -> None:
    """An error of the user's code leaves the block, also while the timeout is handled.

    It is meant for the caller.
    """

    @watch
    def handler(_event: object, _context: object) -> None:
        try:
            expire()
        except TimeoutError:
            with catch_timeout():
                raise KeyError  # noqa: B904 - in a cleanup

    with pytest.raises(KeyError):
        handler({}, FakeContext())


def test_error_outside_invocation_leaves_the_block() -> None:
    """Outside of an invocation an error of any kind leaves the block."""
    with pytest.raises(Interrupt), catch_timeout():
        raise Interrupt


@pytest.mark.parametrize("work", [block, functools.partial(made(READS), block)])
def test_handler_continues_uninterrupted_until_last_call(work: Callable[[], None]) -> None:
    """After the block the handler is not interrupted until last call.

    The same holds after an ``except TimeoutError``.
    """
    waited: list[float] = []

    @watch(grace_period=0.4, last_call=0.1)
    def handler(_event: object, context: Context) -> None:
        with catch_timeout() as timeout:
            work()
        assert timeout
        try:
            threading.Event().wait(10)
        finally:
            waited.append(context.get_remaining_time_in_millis() / 1000)

    with timeout_records() as records, pytest.raises(LambdaTimeout):
        handler({}, Context(1.6))

    assert waited[0] <= 0.11
    assert len(records[0]["interrupts"]) == 2


def test_loop_returning_to_the_block_is_interrupted_again() -> None:
    """A loop that catches its timeout and goes on is interrupted in each block, so that it ends.

    That happens at once, before last call.
    """
    turns: list[bool] = []

    @watch
    def handler(_event: object, context: FakeContext) -> int:
        for _ in range(3):
            with catch_timeout() as timeout:
                expire()
            turns.append(bool(timeout))
        return context.get_remaining_time_in_millis()

    with timeout_records() as records:
        assert handler({}, FakeContext()) > 500
    assert turns == [True] * 3
    assert [each["exception"] for each in records[0]["interrupts"]] == [
        "LambdaTimeout",
        "Interrupt",
        "Interrupt",
    ]


@pytest.mark.parametrize("work", [expire, LIBRARIES[0]])
def test_second_block_is_not_interrupted_before_last_call(work: Callable[[], None]) -> None:
    """A second block in the cleanup is not interrupted before last call.

    It is treated like the rest of the cleanup.
    """
    ended: list[str] = []

    @watch
    def handler(_event: object, _context: object) -> str:
        with catch_timeout():
            work()
        with catch_timeout() as again:
            threading.Event().wait(0.1)
            ended.append("flushed")
        return "interrupted" if again else "left alone"

    assert handler({}, FakeContext()) == "left alone"
    assert ended == ["flushed"]


# ---- async handlers ----------------------------------------------------------------------------


def test_cancellation_of_the_handler_task_is_caught() -> None:
    """The cancellation of the handler's task is caught, and later asyncio.timeout() blocks work."""

    @watch
    async def handler(_event: object, _context: object) -> str:
        with catch_timeout() as timeout:
            await async_expire()
        assert timeout.details is not None
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(1)
        return "partial"

    assert handler({}, FakeContext()) == "partial"


def test_timeout_in_the_task_step_is_caught() -> None:
    """A timeout that lands in a step of the handler's own task is caught as a LambdaTimeout."""

    @watch
    async def handler(_event: object, _context: object) -> str:
        with catch_timeout() as timeout:
            expire()
        await asyncio.sleep(0)
        return "partial" if timeout else "whole"

    assert handler({}, FakeContext()) == "partial"


def test_cancellation_of_another_task_is_not_caught() -> None:
    """Another task's cancellation leaves the block, as its canceller expects.

    So does a cancellation of the handler's task before the timeout.
    """

    @watch
    async def handler(_event: object, _context: object) -> str:
        async def child() -> None:
            with catch_timeout():
                await asyncio.sleep(10)

        task = asyncio.create_task(child())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(catching(), 0.01)
        return "whole"

    async def catching() -> None:
        with catch_timeout():
            await asyncio.sleep(1)

    assert handler({}, FakeContext()) == "whole"


def test_cancellation_of_another_task_after_timeout_is_not_caught() -> None:
    """After the timeout another task's cancellation leaves the block.

    Only the handler's task is cancelled for the timeout.
    """

    async def child() -> None:
        with catch_timeout():
            await asyncio.sleep(10)

    @watch
    async def handler(_event: object, _context: object) -> str:
        with catch_timeout() as timeout:
            await async_expire()
        assert timeout
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return "partial"

    assert handler({}, FakeContext()) == "partial"


def test_cancellation_before_landing_is_not_caught() -> None:
    """A cancellation leaves the block if no interrupt has landed.

    With INTERRUPT=none the handler goes on at its grace period.
    """

    async def bounded() -> None:
        async with asyncio.timeout(0.01):
            with catch_timeout():
                await asyncio.sleep(10)

    @watch(interrupt="none")
    async def handler(_event: object, _context: object) -> str:
        expire()
        with pytest.raises(TimeoutError):
            await bounded()
        return "whole"

    assert handler({}, FakeContext()) == "whole"


def test_cancellation_without_a_loop_is_not_caught() -> None:
    """A CancelledError leaves the block if no loop runs, because any code may have raised it."""

    @watch
    def handler(_event: object, _context: object) -> None:
        with catch_timeout():
            expire()
        with catch_timeout():
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        handler({}, FakeContext())


# ---- off the main thread -----------------------------------------------------------------------


def test_timeout_on_another_thread_is_caught() -> None:
    """Off the main thread the timeout is injected, and the block catches it as well."""
    answers: list[str] = []

    @watch
    def handler(_event: object, _context: object) -> str:
        with catch_timeout() as timeout:
            while True:
                threading.Event().wait(0.005)
        return "partial" if timeout else "whole"

    thread = threading.Thread(target=lambda: answers.append(handler({}, Context(0.4))))
    thread.start()
    thread.join()

    assert answers == ["partial"]


def test_injection_landing_at_block_end_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An injection that is on its way when the block ends is caught by the block."""
    late = catch_timeout()
    calls: list[BaseException] = []

    class Firing:
        class policy:  # noqa: N801 - an attribute
            caught_at = None
            enters = staticmethod(lambda _place: None)
            involves = staticmethod(lambda error: isinstance(error, LambdaTimeout))

        details = TimeoutDetails(deadline=0.0, elapsed=1.0, grace_period=0.0)

    def withdraw(_firing: object) -> None:
        if not calls:
            calls.append(LambdaTimeout("injected"))
            raise calls[0]

    class Invocation:
        firing = Firing()

    monkeypatch.setattr("watchdog_lambda._catch.withdraw_for_shield", withdraw)
    monkeypatch.setattr("watchdog_lambda._catch.invocation_of", lambda _ident: Invocation())

    with late:
        raise LambdaTimeout

    assert late
    assert len(calls) == 1
