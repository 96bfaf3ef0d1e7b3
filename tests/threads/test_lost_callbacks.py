"""An interrupt never loses a loop's callback, whose task would wait forever."""

from __future__ import annotations

import asyncio
import operator
import signal
from collections import deque
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Context
from watchdog_lambda import LambdaTimeout, watch
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator


class NudgedQueue(deque[Any]):
    """A loop's queue that is nudged after each popleft(), before its caller has the item.

    All of it is C code, so there is no instruction in between for an interrupt to land at.
    """

    popleft: Any


def nudged(queue: deque[Any], number: int) -> NudgedQueue:
    made = NudgedQueue(queue)
    popped: Iterator[Any] = iter(partial(deque.popleft, made), object())
    signals = map(signal.raise_signal, repeat(number))
    made.popleft = map(operator.itemgetter(0), zip(popped, signals, strict=False)).__next__
    return made


async def yield_forever() -> None:
    for _ in repeat(None):
        await asyncio.sleep(0)


def test_nudge_before_callback_runs_loses_no_task() -> None:
    """A nudge between taking a callback from the queue and calling it does not lose its task.

    The handler is interrupted at the grace period and not at last call.
    """

    @watch(grace_period=1.0)
    async def handler(event: str, _context: object) -> str:
        loop: Any = asyncio.get_running_loop()
        if event == "spin":
            loop._ready = nudged(loop._ready, process_watchdog.nudge.number or 0)
            try:
                await yield_forever()
            finally:
                loop._ready = deque(loop._ready)
        return event

    assert handler("first", Context(5.0)) == "first"
    context = Context(4.0)
    with pytest.raises(LambdaTimeout):
        handler("spin", context)

    assert context.get_remaining_time_in_millis() > 350, "interrupted only at last call"
    assert handler("next", Context(5.0)) == "next"
