"""Where the time of a timeout went, told by a real watchdog of handlers that really wait."""

from __future__ import annotations

import asyncio
import math
import time
from _thread import get_ident
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from tests.log_schema import check_built
from tests.support import BOUND, Context, elsewhere, eventually, here
from watchdog_lambda import LambdaTimeout, watch
from watchdog_lambda._engine.current import active
from watchdog_lambda._engine.limits import Limit
from watchdog_lambda._process import process_watchdog
from watchdog_lambda._time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Callable

TIME, LOOKED_FROM, LOOKED_TO = 2.0, 1.0, 1.5
"""Seconds of a handler's, and of its samples, which are 25 ms apart."""

CAUSE_ENDS = LOOKED_FROM + 0.8 * (LOOKED_TO - LOOKED_FROM)
"""80 % of the samples are taken before that."""


def cause(began: float) -> None:
    while (left := began + CAUSE_ENDS - time.monotonic()) > 0:
        time.sleep(min(left, 0.005))


def sync(_event: object, _context: object) -> None:
    cause(time.monotonic())
    time.sleep(BOUND)


async def awaited(began: float) -> None:
    await asyncio.sleep(began + CAUSE_ENDS - time.monotonic())


async def asynchronous(_event: object, _context: object) -> None:
    await awaited(time.monotonic())
    await asyncio.sleep(BOUND)


def in_a_thread(_event: object, _context: object) -> None:
    cause(time.monotonic())
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("call", "handler", "function"),
    [
        (here, sync, "cause"),
        (here, asynchronous, "awaited"),
        (elsewhere, in_a_thread, "cause"),
    ],
)
def test_the_record_names_the_cause_and_not_only_the_place(
    call: Callable[[Any], None],
    handler: Callable[..., Any],
    function: str,
    watchdog_timeouts: list[dict[str, Any]],
) -> None:
    """80 % of the time went into one call, and the interrupt has landed after it."""
    with pytest.raises(LambdaTimeout):
        call(lambda: watch(handler)({}, Context(TIME)))

    [record] = watchdog_timeouts
    check_built(record)
    spent = record["time_spent"]
    share = sum(line["share"] for line in spent["lines"] if f"({function})" in line["location"])
    assert f"({handler.__name__})" in record["location"], "interrupted elsewhere"
    assert spent["samples"] == 20
    assert share == pytest.approx(0.8, abs=0.1)


def test_a_handler_that_ends_in_the_second_half_leaves_nothing(
    watchdog_timeouts: list[dict[str, Any]],
) -> None:
    """It has been looked at, and has no firing: its end takes the short way."""
    seen: list[object] = []

    @watch
    def handler(_event: object, _context: object) -> str:
        invocation = active[get_ident()]
        eventually(lambda: process_watchdog._sampling.of(invocation), "the first sample")
        seen.extend([process_watchdog._sampling.of(invocation), invocation.firing])
        return "done"

    assert handler({}, Context(TIME)) == "done"

    samples, firing = seen
    assert samples is not None
    assert firing is None
    assert watchdog_timeouts == []


@pytest.mark.parametrize("put_off", [False, True])
def test_a_block_rings_although_the_thread_wakes_for_a_sample_before(
    monkeypatch: pytest.MonkeyPatch, *, put_off: bool
) -> None:
    """Or the kernel's timer stays at the invocation's deadline, should C code hold the GIL.

    Or at the next one's, if that invocation has ended.
    """
    rung: list[object] = []
    now = time.monotonic()
    monkeypatch.setattr(process_watchdog, "wake", rung.append)
    process_watchdog.wake_at = now + 1.0
    process_watchdog.acts_at = now + (1.0 if put_off else 30.0)
    if put_off:
        monkeypatch.setattr(process_watchdog.kernel_timers, "next_at", now + 30.0)

    with time_limit(10.0):
        pass

    # Not what was there before: the thread may have gone to sleep for longer, and not be rung.
    process_watchdog.wake_at = process_watchdog.acts_at = math.inf

    [limit] = rung
    assert isinstance(limit, Limit)


@pytest.mark.alone
def test_what_looking_costs_in_processor_time() -> None:
    """For a handler that waits in one place: 20 samples, beside none, in turns.

    The goal is 1 ms; it was 5 when each sample set the kernel's timers anew.
    """

    def wait(_event: object, _context: object) -> None:
        time.sleep(2 * LOOKED_TO - 0.25)

    def spent(samples: int) -> float:
        began = time.process_time()
        watch(samples=samples)(wait)({}, Context(2 * TIME))
        return (time.process_time() - began) * 1000

    spent(20)  # what is loaded for the first time does not count
    with_samples, without = zip(*((spent(20), spent(0)) for _ in range(2)), strict=True)

    print(f"20 samples: {median(with_samples):.2f} ms; none: {median(without):.2f} ms")
    assert min(with_samples) - min(without) < 3.0
