"""Code that runs and runs in Python, and on an event loop."""

from __future__ import annotations

import asyncio
import copy
import csv
import importlib
import itertools
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path

from benchmarks.limits.registry import LONG, Block, Group

# ---- event loops ---------------------------------------------------------------------------------


loops = Group("asyncio")


def _asyncio(main: Callable[[], Coroutine[object, object, object]]) -> Block:
    return lambda: asyncio.run(main())


async def _compute() -> None:
    for number in itertools.count():
        _ = number * number


async def _waits_beside_a_busy_task() -> None:
    busy = asyncio.create_task(_compute())
    await asyncio.sleep(LONG)
    await busy


async def _blocks() -> None:
    time.sleep(LONG)  # noqa: ASYNC251 - the mistake is the point


async def _waits_for_a_child() -> None:
    child = await asyncio.create_subprocess_exec("sleep", str(LONG))
    await child.wait()


def _in_a_loop_of_its_own() -> Block:
    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(asyncio.sleep(LONG))


add = loops.add
about = "`asyncio.run()` of a coroutine that sleeps"
add("asyncio-sleep", about, lambda: _asyncio(partial(asyncio.sleep, LONG)))
about = "`loop.run_until_complete()` of a coroutine that sleeps"
add("asyncio-run-until-complete", about, _in_a_loop_of_its_own)
add("asyncio-busy", "`asyncio.run()` of a coroutine that computes", lambda: _asyncio(_compute))
about = "`asyncio.run()`, where a background task computes"
add("asyncio-busy-task", about, lambda: _asyncio(_waits_beside_a_busy_task))
about = "`asyncio.run()` of a coroutine that calls `time.sleep()`"
add("asyncio-blocking", about, lambda: _asyncio(_blocks))
about = "`asyncio.run()` of `asyncio.to_thread(time.sleep, 60)`"
sleeps = partial(asyncio.to_thread, time.sleep, LONG)
add("asyncio-to-thread", about, lambda: _asyncio(sleeps), quick=True)
about = "`asyncio.run()` that waits for a subprocess"
add("asyncio-subprocess", about, lambda: _asyncio(_waits_for_a_child))


# ---- Python --------------------------------------------------------------------------------------


python = Group("Python code")


def _loop() -> None:
    while True:
        pass


def _square(number: int) -> int:
    return number * number


def _square_all() -> None:
    for number in itertools.count():
        _square(number)


def _in_try(cleaned: list[bool]) -> None:
    number = 0
    try:
        while True:
            number += 1
    finally:
        cleaned.append(True)


def _tell_whether_it_was_cleaned() -> None:
    cleaned: list[bool] = []
    try:
        _in_try(cleaned)
    except BaseException as error:
        if not cleaned:
            error.add_note("the `finally` was skipped")
        raise


def _swallow() -> None:
    while True:
        try:
            _square_all()
        except Exception:  # noqa: BLE001, S112 - the mistake is the point
            continue


class _Late:
    def __del__(self) -> None:
        while True:
            _square(2)


def _finalise() -> None:
    late = _Late()
    del late
    while True:  # the exception that ended it has been dropped
        pass


def _lines() -> Iterator[str]:
    while True:
        yield "1,2,3"


add = python.add
add("loop", "`while True: pass`", lambda: _loop, quick=True)
add("loop-of-calls", "A loop that calls functions", lambda: _square_all)
about = "`try: while True: ...` with a `finally`"
add("loop-in-try", about, lambda: _tell_whether_it_was_cleaned)
about = "A generator expression without end"
add("comprehension", about, lambda: lambda: max(number & 1 for number in itertools.count()))
add("swallowing-loop", "A loop with `except Exception: continue`", lambda: _swallow)
add("finaliser", "A `__del__` that computes", lambda: _finalise)


@python.call()
def slow_import() -> Block:
    """`import` of a module that sleeps."""
    Path("slow_module.py").write_text("import time\ntime.sleep(60)\n")
    sys.path.insert(0, str(Path.cwd()))
    return partial(importlib.import_module, "slow_module")


about = "`copy.deepcopy()` of something huge"
orders = partial(map, lambda n: {"id": n, "tags": [n]})
add("deepcopy", about, lambda: partial(copy.deepcopy, list(orders(range(700_000)))))
about = "`csv.reader()` of a generator without end"
add("csv-reader", about, lambda: lambda: all(csv.reader(_lines())))
