"""``time_limit``: a block that is left with TimeLimitExceeded, in any thread."""

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
from watchdog_lambda._engine.history import InterruptRecord
from watchdog_lambda._engine.limits import innermost
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import LANDING, prepared
from watchdog_lambda.testing import FakeContext, clock, expire

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

SHORT = 0.05
"""Seconds that a block of these tests gets."""


def spin(seconds: float = BOUND) -> None:
    """Compute, as a handler does that nothing blocks."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


both = pytest.mark.parametrize("run", [here, elsewhere], ids=["nudge", "injection"])


@both
def test_a_block_that_takes_too_long_is_left(run: Callable[[Callable[[], Any]], Any]) -> None:
    """With the error of the contract, its message, and in time; outside of an invocation too."""

    def limited() -> None:
        with time_limit(SHORT) as limit:
            spin()
        assert not limit.expired

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


def test_a_blocked_call_is_interrupted() -> None:
    """On the main thread, at once."""
    began = time.monotonic()

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        block()

    assert SHORT <= time.monotonic() - began < BOUND


@both
def test_a_block_that_ends_in_time_is_left_alone(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """Nothing lands in it, nor after it."""

    def limited() -> str:
        with time_limit(BOUND) as limit:
            pass
        assert not limit.expired
        assert limit.remaining() > 0
        return "done"

    assert run(limited) == "done"
    assert landed_outside() == []


def test_none_is_no_limit() -> None:
    """For code that takes its limit from somewhere else."""
    with time_limit(None) as limit:
        assert limit.remaining() == math.inf
    assert not limit.expired


@pytest.mark.parametrize("seconds", [0, 0.0, -1.0])
def test_no_time_at_all_is_exceeded_at_once(seconds: float) -> None:
    """Without the block being entered."""
    entered = False

    with pytest.raises(TimeLimitExceeded), time_limit(seconds):
        entered = True

    assert not entered


@pytest.mark.parametrize("seconds", ["5", math.nan, b"1", object()])
def test_what_is_no_number_of_seconds_is_refused(seconds: Any) -> None:
    """With the value and one that would do."""
    with pytest.raises(ConfigurationError, match=r"time_limit.*for example 5\.0"):
        time_limit(seconds)


def test_the_inner_limit_leaves_the_inner_block_only() -> None:
    """The one that is due first lands, and the outer block goes on."""
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


def test_the_outer_limit_goes_through_the_inner_block_as_a_foreign_error() -> None:
    """Which does not take it for its own."""
    outer, inner = time_limit(SHORT), time_limit(BOUND)

    with pytest.raises(TimeLimitExceeded) as raised, outer, inner:
        spin()

    assert outer.expired
    assert not inner.expired
    assert raised.value.limit is outer


def test_swallowing_the_first_brings_an_interrupt_and_the_block_still_ends() -> None:
    """As with an invocation: the ladder."""
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


def test_code_that_catches_it_and_goes_on_to_the_end_of_the_block_has_ended_the_timeout() -> None:
    """As a handler that catches LambdaTimeout and returns."""
    with time_limit(SHORT) as limit:
        try:
            spin()
        except TimeoutError:
            answer = "partial"

    assert answer == "partial"
    assert limit.expired
    assert landed_outside() == []


def test_a_cleanup_is_left_alone() -> None:
    """The second interrupt waits for a finally that the first one has set going."""
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


def test_a_shield_is_waited_for() -> None:
    """It lands at its end."""
    steps: list[str] = []

    def work() -> None:
        with shield():
            spin(0.15)
            steps.append("committed")
        steps.append("one line later")

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        work()

    assert steps == ["committed"]


def test_an_error_of_the_block_is_the_blocks() -> None:
    """Neither changed nor wrapped, also when it comes out of a handled timeout."""

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
def test_in_an_invocation_a_block_costs_itself_and_the_handler_answers(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """And the invocation is no timeout."""

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
def test_the_invocations_deadline_is_the_outermost_limit(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """Its LambdaTimeout goes through the block."""

    @watch(grace_period=0.2)
    def handler(_event: object, _context: object) -> str:
        with time_limit(BOUND):
            spin()
        return "never"

    with pytest.raises(LambdaTimeout):
        run(lambda: handler({}, Context(0.8)))


def test_both_due_at_once_end_as_the_invocations_timeout() -> None:
    """Whichever lands first, the caller gets LambdaTimeout, and nothing lands later."""

    @watch(grace_period=0.2)
    def handler(_event: object, _context: object) -> str:
        with contextlib.suppress(TimeLimitExceeded), time_limit(0.6):
            spin()
        spin()
        return "never"

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.8))
    assert landed_outside() == []


def test_no_signal_of_the_users_is_taken() -> None:
    """signal.alarm and its handler stay as they are."""
    before = signal.getsignal(signal.SIGALRM)

    with pytest.raises(TimeLimitExceeded), time_limit(SHORT):
        spin()

    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_threads_have_limits_of_their_own() -> None:
    """One that is exceeded leaves the others alone."""
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


def test_an_async_block_is_cancelled_and_ends_with_the_limits_error() -> None:
    """Through the task: what it awaits sees CancelledError; the task itself is not cancelled."""
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


def test_an_async_block_that_is_cancelled_too_ends_with_the_limits_error() -> None:
    """As where a limit around it is due at once: an Interrupt lands, and its task is cancelled."""

    async def main() -> None:
        async with time_limit(BOUND) as limit:
            inner: Any = limit._limit
            process_watchdog._advance(inner, inner.thread_id)
            inner._cancel()
            error = Interrupt()
            record = InterruptRecord(error, 0.0, "here", frozenset(), inner.firing.stopwatch)
            record.landed()
            inner.firing.policy.records.append(record)
            raise error

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(main())
    assert innermost == {}


def test_an_async_block_leaves_the_other_tasks_alone() -> None:
    """One of two that wait at the same time."""

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


def test_an_async_block_that_computes_is_interrupted_too() -> None:
    """A loop that does not turn cannot cancel anything."""

    async def main() -> None:
        async with time_limit(SHORT):
            spin()

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(main())


def test_a_cancellation_from_outside_stays_one() -> None:
    """It is not taken for the limit's."""

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


def test_a_limit_is_used_once() -> None:
    """A second use would take the first one's end for its own."""
    limit = time_limit(BOUND)
    with limit:
        pass

    with pytest.raises(RuntimeError, match="once"), limit:
        pass


def test_remaining_counts_down_to_the_end_of_the_block() -> None:
    """Seconds; never more than what was given."""
    with time_limit(BOUND) as limit:
        assert BOUND - 1.0 < limit.remaining() <= BOUND


def test_a_limit_inside_of_a_cleanup_lands_in_it() -> None:
    """A cleanup is left alone by the limit that it cleans up after, and not by its own."""
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
def test_limits_that_are_due_at_once_all_end_with_the_outermost(
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """Nothing is left behind, neither an interrupt nor an entry."""

    def limited() -> None:
        with time_limit(SHORT) as outer, time_limit(SHORT), time_limit(SHORT):
            spin()
        raise AssertionError(outer)

    with pytest.raises(TimeLimitExceeded):
        run(limited)

    assert innermost == {}
    assert landed_outside() == []


class _Strikes:
    """Injects into the calling thread what is prepared there, where it comes to no check point."""

    _as_parameter_ = 0  # what C sees of it, after the two arguments that it looks at

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
        # Looked up on the class, and called by C code that looks at nothing when that has returned.
        type(self).now = property(
            functools.partial(ctypes.pythonapi.PyThreadState_SetAsyncExc, thread, kind)
        )

    now: Any


def test_an_injection_that_meets_the_blocks_end_is_taken_back() -> None:
    """What the block has come to stays, and the limit is closed."""

    def limited() -> str:
        with time_limit(BOUND) as limit:
            strike = _Strikes(limit)
            answer = "the block's"
            strike.now
        assert not limit.expired
        return answer

    for _ in range(20):  # CPython goes another way once it knows the code
        assert elsewhere(limited) == "the block's"
        assert innermost == {}
        assert prepared == {}


def test_an_injection_that_meets_the_blocks_error_leaves_that_one() -> None:
    """The same where the block ends with an error of its own."""

    class Own(Exception):
        pass

    def limited() -> None:
        with time_limit(BOUND) as limit:
            strike = _Strikes(limit)
            error = Own()
            strike.now
            raise error

    for _ in range(20):
        with pytest.raises(Own):
            elsewhere(limited)
        assert innermost == {}


def test_an_injection_that_meets_the_end_of_an_async_block_is_taken_back() -> None:
    """There is no coroutine of the block's that would never be awaited."""

    async def limited() -> str:
        async with time_limit(BOUND) as limit:
            strike = _Strikes(limit)
            answer = "the block's"
            strike.now
        return answer

    for _ in range(20):
        assert elsewhere(lambda: asyncio.run(limited())) == "the block's"
        assert innermost == {}


def test_an_outer_limits_injection_that_meets_an_inner_blocks_end_ends_both() -> None:
    """With the outer one's error; the inner limit is closed by it."""
    steps: list[str] = []

    def limited() -> None:
        with time_limit(BOUND) as outer:
            with time_limit(BOUND):
                strike = _Strikes(outer)
                strike.now
            steps.append("went on")  # pragma: no cover - it must not

    for _ in range(20):
        with pytest.raises(TimeLimitExceeded) as caught:
            elsewhere(limited)
        assert isinstance(caught.value.limit, time_limit)
        assert innermost == {}
    assert steps == []


def test_an_async_block_off_the_main_thread_is_all_that_is_interrupted() -> None:
    """What is injected while its task waits would land in the task that runs."""

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


def test_a_block_that_is_never_left_ends_with_its_invocation() -> None:
    """A generator that is kept would bring it into the next one."""
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


def test_time_can_be_moved_for_limits() -> None:
    """In users' tests: what is due first lands first, without anybody waiting."""

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


def test_time_can_be_moved_for_a_limit_outside_of_an_invocation() -> None:
    """It is the outermost limit then."""
    with pytest.raises(TimeLimitExceeded), time_limit(60.0):
        clock.advance(61.0)


def test_tasks_side_by_side_have_each_their_own_limit() -> None:
    """They begin one after the other and end in any order: no end takes another's limit away."""

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
