"""What blocks under an event loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

from benchmarks.limits.registry import Group

from .threads import LONG

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

group = Group("asyncio")


@group.call()
def asyncio_sleep() -> Block:
    """`asyncio.run()` of a coroutine that sleeps."""
    return lambda: asyncio.run(asyncio.sleep(LONG))


@group.call()
def asyncio_run_until_complete() -> Block:
    """`loop.run_until_complete()` of a coroutine that sleeps."""
    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(asyncio.sleep(LONG))


@group.call()
def asyncio_busy() -> Block:
    """`asyncio.run()` of a coroutine that computes."""
    return lambda: asyncio.run(_compute())


@group.call()
def asyncio_busy_task() -> Block:
    """`asyncio.run()`, where a background task computes."""

    async def main() -> None:
        busy = asyncio.create_task(_compute())
        await asyncio.sleep(LONG)
        await busy

    return lambda: asyncio.run(main())


@group.call()
def asyncio_blocking() -> Block:
    """`asyncio.run()` of a coroutine that calls `time.sleep()`."""

    async def main() -> None:
        time.sleep(LONG)  # noqa: ASYNC251 - the mistake is the point

    return lambda: asyncio.run(main())


@group.call(quick=True)
def asyncio_to_thread() -> Block:
    """`asyncio.run()` of `asyncio.to_thread(time.sleep, 60)`."""
    return lambda: asyncio.run(asyncio.to_thread(time.sleep, LONG))


@group.call()
def asyncio_subprocess() -> Block:
    """`asyncio.run()` that waits for a subprocess."""

    async def main() -> None:
        child = await asyncio.create_subprocess_exec("sleep", str(LONG))
        await child.wait()

    return lambda: asyncio.run(main())


async def _compute() -> None:
    for number in itertools.count():
        _ = number * number
