"""``time_limit``: a block that exceeds it is left with TimeLimitExceeded, in any thread."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import math
import re
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context, block, elsewhere, here, landed_outside
from watchdog_lambda import (
    ConfigurationError,
    Interrupt,
    LambdaTimeout,
    TimeLimitExceeded,
    shield,
    time_limit,
    watch,
)
from watchdog_lambda._cpython.source import PACKAGE
from watchdog_lambda._engine import limits
from watchdog_lambda._engine.history import InterruptRecord
from watchdog_lambda._engine.limits import innermost
from watchdog_lambda._engine.task_limits import TaskLimit
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import LANDING, prepared
from watchdog_lambda.testing import FakeContext, clock, expire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from types import FrameType

SHORT = 0.05
"""The limit of a block in these tests, in seconds."""


def spin(seconds: float = BOUND) -> None:
    """Compute, as a handler that is not blocked."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


both = pytest.mark.parametrize("run", [here, elsewhere], ids=["nudge", "injection"])


@both
def test_block_exceeding_its_limit_is_left(run: Callable[[Callable[[], Any]], Any]) -> None:
    """A block that takes too long is left in time, with the documented error and message.

    No invocation is needed.
    """

    def limited() -> None:
        with time_limit(SHORT):
            spin()

    began = time.monotonic()
    with pytest.raises(TimeLimitExceeded) as raised:
        run(limited)

    assert time.monotonic() - began < 1.0
    assert re.fullmatch(
        r"interrupted after 0\.\d s, the limit of this block, "
        r"in .*test_time_limit\.py:\d+ \(spin\)",
        str(raised.value),
    )
    assert isinstance(raised.value, TimeoutError)
    assert landed_outside() == []


def test_blocked_call_is_interrupted() -> None:
    """A blocked call on the main thread is interrupted at once."""
    began = time.monotonic()

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        block()

    assert SHORT <= time.monotonic() - began < BOUND


@both
def test_block_that_ends_in_time_is_not_interrupted(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """Nothing lands in a block that ends in time, nor after it."""

    def limited() -> str:
        with time_limit(BOUND) as limit:
            pass
        assert not limit.expired
        assert limit.remaining() > 0
        return "done"

    assert run(limited) == "done"
    assert landed_outside() == []


def test_none_means_no_limit() -> None:
    """None means no limit, for code that takes its limit from elsewhere."""
    with time_limit(None) as limit:
        assert limit.remaining() == math.inf
    assert not limit.expired


@pytest.mark.parametrize("seconds", [0, 0.0, -1.0])
def test_non_positive_limit_is_exceeded_at_once(seconds: float) -> None:
    """A limit of 0 or less is exceeded before the block is entered."""
    entered = False

    with pytest.raises(TimeLimitExceeded), time_limit(seconds):
        entered = True

    assert not entered


@pytest.mark.parametrize("seconds", ["5", math.nan, b"1", object()])
def test_invalid_limit_is_refused(seconds: Any) -> None:
    """The limit must be a number, and the error shows a valid one."""
    with pytest.raises(ConfigurationError, match=r"time_limit.*for example 5\.0"):
        time_limit(seconds)


def test_inner_limit_leaves_only_the_inner_block() -> None:
    """An inner limit that is due first ends the inner block, and the outer block goes on."""
    steps: list[str] = []

    with time_limit(BOUND) as outer:
        try:
            with time_limit(SHORT) as inner:
                spin()
        except TimeLimitExceeded:
            steps.append("inner")
        steps.append("behind")

    assert steps == ["inner", "behind"]
    assert inner.expired
    assert not outer.expired


def test_outer_limit_passes_through_inner_block() -> None:
    """An outer limit's error passes through the inner block, which does not count as expired."""
    outer, inner = time_limit(SHORT), time_limit(BOUND)

    with pytest.raises(TimeLimitExceeded) as raised, outer, inner:
        spin()

    assert outer.expired
    assert not inner.expired
    assert raised.value.limit is outer


def test_swallowed_limit_is_followed_by_interrupt() -> None:
    """If TimeLimitExceeded is swallowed, an Interrupt follows, and the block ends as exceeded."""
    swallowed: list[Exception] = []

    def swallow() -> None:
        while True:
            try:
                spin()
            except Exception as error:
                swallowed.append(error)

    limit = time_limit(SHORT)
    with pytest.raises(TimeLimitExceeded), limit:
        swallow()

    assert [type(error) for error in swallowed] == [TimeLimitExceeded]
    assert limit.expired


def test_caught_limit_lets_code_continue_after_the_block() -> None:
    """Code that catches the error and reaches the end of the block continues after it."""
    with time_limit(SHORT) as limit:
        try:
            spin()
        except TimeoutError:
            answer = "partial"

    assert answer == "partial"
    assert limit.expired
    assert landed_outside() == []


def test_cleanup_is_not_interrupted() -> None:
    """The next interrupt does not land in a ``finally`` that the first one has started."""
    steps: list[str] = []

    def work() -> None:
        try:
            spin()
        finally:
            spin(0.15)
            steps.append("cleaned")

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        work()

    assert steps == ["cleaned"]


def test_interrupt_waits_for_shield() -> None:
    """The interrupt lands at the end of a shield."""
    steps: list[str] = []

    def work() -> None:
        with shield():
            spin(0.15)
            steps.append("committed")
        steps.append("one line later")

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        work()

    assert steps == ["committed"]


def test_error_of_the_block_is_raised_unchanged() -> None:
    """An error of the block gets out unchanged, also after a handled timeout."""

    def work() -> None:
        try:
            spin()
        except TimeoutError:
            raise ValueError("own") from None

    with pytest.raises(KeyError), time_limit(BOUND):
        raise KeyError("own")
    with pytest.raises(ValueError, match="own"), time_limit(SHORT):
        work()


@both
def test_limit_in_invocation_ends_only_its_block(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """In an invocation a limit ends its block only, and the handler answers."""

    @watch
    def handler(_event: object, _context: object) -> str:
        try:
            with time_limit(SHORT):
                spin()
        except TimeLimitExceeded:
            return "without it"
        return "with it"

    assert run(lambda: handler({}, Context(BOUND))) == "without it"


@both
def test_invocation_timeout_passes_through_blocks(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """The invocation's LambdaTimeout passes through a block whose limit is later."""

    @watch(grace_period=0.2)
    def handler(_event: object, _context: object) -> str:
        with time_limit(BOUND):
            spin()
        return "never"

    with pytest.raises(LambdaTimeout):
        run(lambda: handler({}, Context(0.8)))


def test_limit_and_invocation_due_together_give_lambda_timeout() -> None:
    """If both are due at once, the caller gets LambdaTimeout, and nothing lands later."""

    @watch(grace_period=0.2)
    def handler(_event: object, _context: object) -> str:
        with contextlib.suppress(TimeLimitExceeded), time_limit(0.6):
            spin()
        spin()
        return "never"

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.8))
    assert landed_outside() == []


def test_sigalrm_is_not_used() -> None:
    """SIGALRM, its handler and its timer stay as they are."""
    before = signal.getsignal(signal.SIGALRM)

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        spin()

    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_limits_of_threads_are_independent() -> None:
    """A limit that is exceeded in one thread does not affect another thread's."""
    outcomes: dict[str, str] = {}

    def work(name: str, seconds: float) -> None:
        try:
            with time_limit(seconds):
                spin(0.3)
            outcomes[name] = "done"
        except TimeLimitExceeded:
            outcomes[name] = "exceeded"

    workers = [
        threading.Thread(target=work, args=("short", SHORT)),
        threading.Thread(target=work, args=("long", BOUND)),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(BOUND)

    assert outcomes == {"short": "exceeded", "long": "done"}


def test_async_block_cancels_what_it_awaits() -> None:
    """An async block's limit cancels what it awaits, and not the task itself."""
    steps: list[str] = []

    async def main() -> str:
        try:
            async with time_limit(SHORT) as limit:
                try:
                    await asyncio.sleep(BOUND)
                except asyncio.CancelledError:
                    steps.append("cancelled")
                    raise
        except TimeLimitExceeded:
            steps.append("exceeded")
        assert limit.expired
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        return "answer"

    assert asyncio.run(main()) == "answer"
    assert steps == ["cancelled", "exceeded"]


async def wait() -> None:
    """Wait for long, as a coroutine that is to be ended."""
    await asyncio.sleep(BOUND)


async def swallow_at_one_place(steps: list[str]) -> None:
    while True:
        try:
            await wait()
        except asyncio.CancelledError:
            steps.append("swallowed")


async def swallow_at_another_place(steps: list[str]) -> None:
    try:
        await wait()
    except asyncio.CancelledError:
        steps.append("swallowed")
    await wait()


async def swallow_in_a_task(steps: list[str]) -> None:
    async def swallow_some() -> None:
        while len(steps) < 2:  # asyncio.run() cancels it once more, and waits for it
            with contextlib.suppress(asyncio.CancelledError):
                await wait()
            steps.append("swallowed")
        await wait()

    await asyncio.create_task(swallow_some())


async def swallow_in_a_generator(steps: list[str]) -> None:
    async def generate() -> AsyncGenerator[None]:
        await swallow_at_one_place(steps)
        yield

    async for _ in generate():
        pass


@pytest.mark.parametrize(
    "swallow",
    [
        swallow_at_one_place,
        swallow_at_another_place,
        swallow_in_a_task,
        swallow_in_a_generator,
    ],
)
def test_async_block_that_swallows_its_cancellation_is_left(
    swallow: Callable[[list[str]], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Interrupt follows a swallowed cancellation, and the block ends with the limit's error."""
    monkeypatch.setattr(limits, "PATIENCE", 0.2)
    steps: list[str] = []

    async def main() -> int:
        with pytest.raises(TimeLimitExceeded, match=r"the limit of this block, in .*\(\w+\)"):
            async with time_limit(SHORT) as limit:
                await swallow(steps)
        assert limit.expired
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(asyncio.wait_for(main(), BOUND / 2)) == 0
    assert "swallowed" in steps
    assert innermost == {}


def test_pressing_a_task_runs_no_code_that_an_interrupt_could_land_in() -> None:
    """What ends a coroutine's wait runs only this package's code and the loop's own.

    An interrupt lands in neither. It would in code that is generated for a class, for example.
    """
    called: set[str] = set()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        around: FrameType | None = frame
        while around is not None and around.f_code is not TaskLimit._press.__code__:
            around = around.f_back
        if event == "call" and around is not None:
            called.add(frame.f_code.co_filename)

    async def main() -> None:
        async with time_limit(SHORT):
            await swallow_at_one_place([])

    sys.setprofile(profile)
    try:
        with pytest.raises(TimeLimitExceeded):
            asyncio.run(asyncio.wait_for(main(), BOUND / 2))
    finally:
        sys.setprofile(None)

    assert TaskLimit._press.__code__.co_filename in called
    others = {file for file in called if not file.startswith(PACKAGE)}
    assert all("asyncio" in file for file in others), others


def test_async_interrupt_that_was_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Interrupt that was swallowed in a coroutine lands again; all are the same kind."""
    monkeypatch.setattr(limits, "PATIENCE", 0.1)
    swallowed: list[type[BaseException]] = []

    async def main() -> None:
        async with time_limit(SHORT):
            while len(swallowed) < 3:
                try:
                    await wait()
                except BaseException as error:
                    swallowed.append(type(error))

    asyncio.run(asyncio.wait_for(main(), BOUND / 2))

    assert swallowed == [asyncio.CancelledError, Interrupt, Interrupt]


class WaitsAtItsEnd:
    """A context manager whose end waits."""

    async def __aenter__(self) -> None:
        """Do nothing."""

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.sleep(0.4)


async def clean_up_in_finally(steps: list[str]) -> None:
    try:
        await wait()
    finally:
        await asyncio.sleep(0.4)
        steps.append("cleaned up")


async def clean_up_in_except(steps: list[str]) -> None:
    try:
        await wait()
    except asyncio.CancelledError:
        for _ in range(4):
            await asyncio.sleep(0.1)
        steps.append("cleaned up")
        raise


async def clean_up_in_exit(steps: list[str]) -> None:
    try:
        async with WaitsAtItsEnd():
            await wait()
    finally:
        steps.append("cleaned up")


@pytest.mark.parametrize("work", [clean_up_in_finally, clean_up_in_except, clean_up_in_exit])
def test_async_cleanup_takes_its_time(
    work: Callable[[list[str]], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleanup in a coroutine is not interrupted, however long it awaits."""
    monkeypatch.setattr(limits, "PATIENCE", 0.1)
    steps: list[str] = []
    since: list[float] = []

    async def main() -> None:
        since.append(time.monotonic())
        async with time_limit(SHORT):
            await work(steps)

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(main())

    assert steps == ["cleaned up"]
    assert time.monotonic() - since[0] >= 0.4


def test_shield_in_a_coroutine_is_not_cancelled() -> None:
    """A limit that is reached in a shield cancels nothing, and lands at the shield's end."""
    steps: list[str] = []

    async def main() -> None:
        async with time_limit(SHORT):
            with shield():
                await asyncio.sleep(4 * SHORT)
                steps.append("shielded")
            await wait()

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(main())

    assert steps == ["shielded"]


def test_limit_waits_for_a_shield_in_another_task() -> None:
    """A limit that was reached while another task of the loop was shielded is not forgotten."""

    async def shielded() -> None:
        with shield():
            await asyncio.sleep(4 * SHORT)

    async def main() -> None:
        async with time_limit(SHORT):
            other = asyncio.ensure_future(shielded())
            await asyncio.gather(wait(), other)

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(asyncio.wait_for(main(), BOUND / 2))


def test_limit_of_a_parked_task_ends_with_the_invocation() -> None:
    """The limit of a task that ignores everything ends with the invocation that gives it up."""

    @watch
    def handler(_event: object, _context: object) -> None:
        async def ignore() -> None:
            async with time_limit(SHORT):
                while True:
                    try:
                        await wait()
                    except BaseException:  # noqa: S110 - that is the point
                        pass

        loop = asyncio.new_event_loop()
        loop.run_until_complete(ignore())

    with pytest.raises(LambdaTimeout):
        handler({}, Context(1.0))

    assert innermost == {}


def test_async_block_interrupted_and_cancelled_raises_limit_error() -> None:
    """An async block that is both interrupted and cancelled ends with the limit's error.

    That happens when a limit around it is due at once.
    """

    async def main() -> None:
        async with time_limit(BOUND) as limit:
            inner: Any = limit._limit
            process_watchdog._advance(inner, inner.thread_id)
            inner._press()
            error = Interrupt()
            record = InterruptRecord(error, 0.0, "here", frozenset(), inner.firing.stopwatch)
            record.landed()
            inner.firing.policy.records.append(record)
            raise error

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(main())
    assert innermost == {}


def test_async_block_does_not_affect_other_tasks() -> None:
    """An async block's limit does not affect other tasks that wait at the same time."""

    async def one(seconds: float | None) -> str:
        try:
            async with time_limit(seconds):
                await asyncio.sleep(0.2)
        except TimeLimitExceeded:
            return "exceeded"
        return "done"

    async def main() -> list[str]:
        return [*await asyncio.gather(one(SHORT), one(None), one(BOUND))]

    assert asyncio.run(main()) == ["exceeded", "done", "done"]


def test_computing_async_block_is_interrupted() -> None:
    """An async block that computes is interrupted, as its loop cannot cancel anything."""

    async def main() -> None:
        async with time_limit(SHORT):
            spin()

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(main())


def test_cancellation_from_outside_is_kept() -> None:
    """A cancellation from outside remains a CancelledError."""

    async def limited() -> None:
        async with time_limit(BOUND):
            await asyncio.sleep(BOUND)

    async def main() -> None:
        task = asyncio.ensure_future(limited())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_limit_cannot_be_reused() -> None:
    """A limit can be used once: a second use would take the first one's end for its own."""
    limit = time_limit(BOUND)
    with limit:
        pass

    with pytest.raises(RuntimeError, match="once"), limit:
        pass


def test_remaining_never_exceeds_the_limit() -> None:
    """``remaining()`` returns seconds, and never more than the limit."""
    with time_limit(BOUND) as limit:
        assert BOUND - 1.0 < limit.remaining() <= BOUND


def test_limit_inside_cleanup_lands_there() -> None:
    """A limit inside a cleanup lands there, though the outer limit's interrupts wait."""
    steps: list[str] = []

    def work() -> None:
        try:
            spin()
        finally:
            with contextlib.suppress(TimeLimitExceeded), time_limit(SHORT):
                block()
            steps.append("cleaned")

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        work()

    assert steps == ["cleaned"]


@both
def test_limits_due_together_end_with_the_outermost(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """Limits that are due at once all end with the outermost one, and leave nothing behind."""

    def limited() -> None:
        with time_limit(SHORT) as outer, time_limit(SHORT), time_limit(SHORT):
            spin()
        raise AssertionError(outer)

    with pytest.raises(TimeLimitExceeded):
        run(limited)

    assert innermost == {}
    assert landed_outside() == []


class _Injection:
    """Injects a limit's interrupt into the calling thread, without a check point after it."""

    _as_parameter_ = 0  # what C sees of this object, after the two arguments that it reads

    def __init__(self, limit: time_limit) -> None:
        inner = limit._limit
        assert inner is not None
        process_watchdog._advance(inner, inner.thread_id)
        assert inner.firing is not None
        policy = inner.firing.policy
        error = policy._make(0.0, sys._getframe(), [])
        policy.records.append(error._witness)  # type: ignore[arg-type]
        prepared[inner.thread_id] = error
        thread, kind = ctypes.c_ulong(inner.thread_id), ctypes.py_object(LANDING[type(error)])
        # The property is found on the class and called by C code, which then checks no signals.
        type(self).now = property(
            functools.partial(ctypes.pythonapi.PyThreadState_SetAsyncExc, thread, kind)
        )

    now: Any


def test_injection_at_block_end_is_withdrawn() -> None:
    """An injection just before the block's end is withdrawn, and the block's result stays."""

    def limited() -> str:
        with time_limit(BOUND) as limit:
            strike = _Injection(limit)
            answer = "the block's"
            strike.now
        assert not limit.expired
        return answer

    for _ in range(20):  # repeated, because CPython specialises the code
        assert elsewhere(limited) == "the block's"
        assert innermost == {}
        assert prepared == {}


def test_injection_at_block_error_is_withdrawn() -> None:
    """An injection just before the block's own error is withdrawn, and the error gets out."""

    class Own(Exception):
        pass

    def limited() -> None:
        with time_limit(BOUND) as limit:
            strike = _Injection(limit)
            error = Own()
            strike.now
            raise error

    for _ in range(20):
        with pytest.raises(Own):
            elsewhere(limited)
        assert innermost == {}


def test_injection_at_async_block_end_is_withdrawn() -> None:
    """An injection at the end of an async block is withdrawn.

    No coroutine of the block is left that would never be awaited.
    """

    async def limited() -> str:
        async with time_limit(BOUND) as limit:
            strike = _Injection(limit)
            answer = "the block's"
            strike.now
        return answer

    for _ in range(20):
        assert elsewhere(lambda: asyncio.run(limited())) == "the block's"
        assert innermost == {}


def test_outer_injection_at_inner_block_end_ends_both() -> None:
    """An outer limit's injection at the end of an inner block ends both blocks."""
    steps: list[str] = []

    def limited() -> None:
        with time_limit(BOUND) as outer:
            with time_limit(BOUND):
                strike = _Injection(outer)
                strike.now
            steps.append("went on")  # pragma: no cover - it must not

    for _ in range(20):
        with pytest.raises(TimeLimitExceeded) as caught:
            elsewhere(limited)
        assert isinstance(caught.value.limit, time_limit)
        assert innermost == {}
    assert steps == []


def test_async_block_on_another_thread_is_interrupted_alone() -> None:
    """In another thread only the async block is interrupted, though its loop runs another task.

    An injection while its task waits would land in the task that runs.
    """

    async def waits() -> str:
        try:
            async with time_limit(SHORT):
                await asyncio.sleep(BOUND)
        except TimeLimitExceeded:
            return "exceeded"
        return "never"

    async def computes() -> str:
        await asyncio.sleep(0)
        spin(SHORT * 4)
        return "computed"

    async def both_of_them() -> list[str]:
        return [*await asyncio.gather(waits(), computes())]

    assert elsewhere(lambda: asyncio.run(both_of_them())) == ["exceeded", "computed"]


def test_unfinished_block_ends_with_its_invocation() -> None:
    """A block that is never left, as in a kept generator, ends with its invocation."""
    kept: list[Generator[None]] = []

    def enters() -> Generator[None]:
        with time_limit(SHORT):
            yield

    @watch
    def handler(event: str, _context: object) -> str:
        if event == "first":
            kept.append(enters())
            next(kept[0])
        else:
            spin(SHORT * 3)
        return event

    assert handler("first", Context(BOUND)) == "first"
    assert innermost == {}
    assert handler("second", Context(BOUND)) == "second"
    kept[0].close()


def test_fake_clock_can_expire_limits() -> None:
    """In users' tests the fake time can be moved, and the limit that is due first lands."""

    @watch
    def handler(_event: object, _context: object) -> str:
        try:
            with time_limit(60.0):
                expire()
        except TimeLimitExceeded as error:
            return str(error)
        return "never"

    began = time.monotonic()
    answer = handler({}, FakeContext(600.0))

    assert re.match(r"interrupted after 60\.\d s, the limit of this block, in ", answer)
    assert time.monotonic() - began < 3 * BOUND


def test_fake_clock_can_expire_limit_outside_invocation() -> None:
    """The fake time can also be moved for a limit outside of an invocation."""
    with pytest.raises(TimeLimitExceeded), time_limit(60.0):
        clock.advance(61.0)


def test_concurrent_tasks_have_independent_limits() -> None:
    """Tasks that run side by side each have their own limit, in whatever order they end."""

    async def one(number: int) -> int:
        try:
            async with time_limit(SHORT * 4):
                await asyncio.sleep(BOUND if number % 2 else SHORT / (number + 1))
        except TimeLimitExceeded:
            return -number
        return number

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(6)))

    began = time.monotonic()
    assert asyncio.run(all_of_them()) == [0, -1, 2, -3, 4, -5]
    assert time.monotonic() - began < BOUND / 2
    assert threading.get_ident() not in innermost
