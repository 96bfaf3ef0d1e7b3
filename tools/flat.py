"""Whether a hundred thousand timeouts leave anything behind: memory, descriptors, threads, objects.

    python3 dev.py flat                       # 100,000 timeouts in one process
    python3 dev.py flat --timeouts 3000 --samples 10

Every kind of timeout in turn, on the main thread (nudge) and on another (injection), each after
some milliseconds. The first fifth is for warming up. After it, the least of the first half of the
samples is compared with the least of the second, for each figure.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import linecache
import os
import statistics
import sys
import threading
import time
import tracemalloc  # noqa: F401 - a warning about a lost coroutine would import it later
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tools import ending, resident
from watchdog_lambda import LambdaTimeout, Watchdog, scoped_hook, shield, watch
from watchdog_lambda._engine.current import under_way
from watchdog_lambda.errors import prepared
from watchdog_lambda.testing import FakeContext

Handler = Callable[[Any, Any], object]

SECONDS: Final = 0.008
"""Of an invocation: its hard deadline is that far away, and the grace period a quarter of it."""

LONG: Final = 0.12  # the same for a handler that swallows: interrupts are 20 ms apart
SELDOM: Final = 8  # rounds of the others for one of those
WARM_UP: Final = 0.2  # share of the timeouts that are not judged
ALLOWED: Final = {"rss_kb": 2048, "descriptors": 0, "threads": 0, "objects": 60}
"""Growth that is no leak. Memory: what the allocator keeps back, half an arena's worth or two; the
objects: a cache that meets a new kind late."""

ALLOWED_OF_A_TYPE: Final = 15


def asleep(_event: object, _context: object) -> None:
    """Sleep in short pieces: an injection does not end a blocked call."""
    while True:
        time.sleep(0.001)


def busy(_event: object, _context: object) -> None:
    number = 0
    while True:
        number += 1


def in_a_lock(_event: object, _context: object) -> None:
    lock = threading.Lock()
    lock.acquire()
    while not lock.acquire(timeout=0.001):
        pass


def swallowing(_event: object, _context: object) -> None:
    while True:
        try:
            while True:
                time.sleep(0.0005)
        except Exception:  # noqa: BLE001, S112 - as bad as what is found in the wild
            continue


def own_error(_event: object, _context: object) -> None:
    try:
        asleep(None, None)
    except TimeoutError as error:
        raise KeyError("order") from error


def in_a_shield(_event: object, _context: object) -> None:
    with shield():
        time.sleep(SECONDS * 0.85)
    asleep(None, None)


def with_hooks(_event: object, _context: object) -> None:
    with scoped_hook(int, "1"), scoped_hook(int, "not a number"):
        asleep(None, None)


def runs_asyncio(_event: object, _context: object) -> None:
    """Run a loop of its own; ticks are check points for an injection."""

    async def main() -> None:
        await asyncio.gather(asyncio.sleep(30), asyncio.sleep(30))

    with asyncio.Runner() as runner:
        ticks(runner.get_loop())
        runner.run(main())


async def coroutine(_event: object, _context: object) -> None:
    """Leave a task behind; awaits in short pieces."""
    left_behind = asyncio.create_task(asyncio.sleep(30))
    while not left_behind.done():  # noqa: ASYNC110 - check points for an injection
        await asyncio.sleep(0.001)


def ticks(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(0.001, ticks, loop)


def kinds(watchdog: Watchdog) -> list[Handler]:
    plain = (asleep, busy, in_a_lock, own_error, in_a_shield, with_hooks, runs_asyncio, coroutine)
    return [
        *map(watchdog.watch, plain),
        watch(fallback={"partial": True})(asleep),
        watch(fallback=lambda details: details.location)(busy),
    ]


class Sample:
    def __init__(self, number: int, seconds_each: float) -> None:
        self.ms_each = seconds_each * 1000
        linecache.clearcache()  # what is printed of a stack keeps whole files
        gc.collect()
        gc.collect()
        self.types = collections.Counter(type(each).__name__ for each in gc.get_objects())
        self.objects = self.types.total()
        self.rss_kb = resident() // 1024
        self.descriptors = len(list(Path("/proc/self/fd").iterdir()))
        self.threads = len(list(Path("/proc/self/task").iterdir()))
        figures = ", ".join(f"{getattr(self, name):,} {name}" for name in ALLOWED)
        print(f"{number:,}: {figures}, {self.ms_each:.2f} ms each", file=sys.stderr, flush=True)


class Flat:
    def __init__(self, timeouts: int, samples: int) -> None:
        self.timeouts = timeouts
        self.every = max(1, timeouts // samples)
        watchdog = Watchdog()
        short = [(kind, SECONDS) for kind in kinds(watchdog)]
        self.watched = [*short * SELDOM, (watchdog.watch(swallowing), LONG)]
        self.samples: list[Sample] = []
        self.outcomes: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        """Half of them on the main thread, half on another, which stays the same."""
        began, done = time.monotonic(), 0
        with ThreadPoolExecutor(1) as worker:
            for number in range(1, self.timeouts + 1):
                kind = self.watched[number // 2 % len(self.watched)]
                if number % 2:
                    self.time_out(*kind)
                else:
                    worker.submit(self.time_out, *kind).result()
                if number % self.every == 0:
                    seconds = (time.monotonic() - began) / (number - done)
                    self.samples.append(Sample(number, seconds))
                    began, done = time.monotonic(), number

    def time_out(self, watched: Handler, seconds: float) -> None:
        try:
            watched({}, FakeContext(seconds))
        except LambdaTimeout:
            self.outcomes["timed out"] += 1
        except KeyError:
            self.outcomes["own error"] += 1
        else:
            self.outcomes["answered"] += 1
        if under_way() or prepared:
            self.outcomes["STATE LEFT BEHIND"] += 1


def verdict(samples: list[Sample], every: int) -> tuple[list[str], bool]:
    judged = samples[int(len(samples) * WARM_UP) :]
    half = len(judged) // 2
    series = {name: [float(getattr(each, name)) for each in judged] for name in ALLOWED}
    kinds = set().union(*(each.types for each in judged))
    series |= {f"{kind} objects": [each.types[kind] for each in judged] for kind in kinds}
    lines, is_flat = [], True
    for name, values in series.items():
        allowed = ALLOWED.get(name, ALLOWED_OF_A_TYPE)
        # The least, because what is in the middle of things comes and goes.
        grown = min(values[half:]) - min(values[:half])
        slope = statistics.linear_regression(range(len(values)), values).slope * 1000 / every
        if name in ALLOWED or grown > allowed:
            is_flat &= grown <= allowed
            lines.append(
                f"{name:<12} {values[0]:>10,.0f} -> {values[-1]:>10,.0f}   grown {grown:>+8,.0f} "
                f"(allowed {allowed:,})   slope {slope:+.3f} per 1,000 timeouts"
                f"{'' if grown <= allowed else '   GROWS'}"
            )
    lines.append(f"{'ms each':<12} {judged[0].ms_each:>10.2f} -> {judged[-1].ms_each:>10.2f}")
    return lines, is_flat


def main() -> int:
    status = "Exit status: 0 flat, 1 something grows or is left behind, 2 a wrong call."
    parser = ending.parser("dev.py flat", __doc__, status)
    add = parser.add_argument
    add("--timeouts", type=int, default=100000, metavar="N")
    add("--samples", type=int, default=25, metavar="N", help="10 at least")
    options = parser.parse_args()
    if options.samples < 10 or options.timeouts < options.samples * 10:
        parser.error("10 samples at least, and 10 timeouts for each: --timeouts 1000 --samples 10")
    # Records go where they cost what they cost; this command's own lines go to the real one.
    own = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.setswitchinterval(0.001)
    began = time.monotonic()
    flat = Flat(options.timeouts, options.samples)
    flat.run()
    lines, is_flat = verdict(flat.samples, flat.every)
    is_flat &= not flat.outcomes["STATE LEFT BEHIND"]
    version, outcomes = sys.version.split()[0], dict(+flat.outcomes)
    lines.insert(0, f"Python {version}: {options.timeouts:,} timeouts, {outcomes}")
    lines.append(f"{'seconds':<12} {time.monotonic() - began:>10.0f}")
    lines.append("FLAT" if is_flat else "NOT FLAT")
    os.write(own, ("\n".join(lines) + "\n").encode())
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
