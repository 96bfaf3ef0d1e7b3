"""One point of one series: what a call costs, and how late an interrupt is, with so much of it.

python -m benchmarks.costs.growth_child SERIES AMOUNT TIMEOUTS
"""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.child import Channel, end_with_parent
from watchdog_lambda import remaining_time, scoped_hook, watch
from watchdog_lambda.testing import FakeContext

from .calls_child import batch, batch_size, later
from .contenders import context
from .handlers import noop
from .report import quantile

if TYPE_CHECKING:
    from collections.abc import Callable

_TURNS: Final = 3
_ROUNDS: Final = 15
_GRACE: Final = 0.2
_SOON_THERE: Final = {"hooks", "depth"}
"""Series of states that are entered and left in no time, so by turns for each single batch."""
_BLOCK: Final = 250
_BLOCKS: Final = 20
"""So many times so many calls are timed at each mark."""


def main(series: str, amount: str, timeouts: str) -> None:
    """Tell one line: what a call costs and how late the interrupts were; or one for each mark."""
    end_with_parent()
    channel = Channel()
    count, wanted = int(amount), int(timeouts)
    if series == "invocations":
        _invocations(channel, count)
        return
    amid = _SERIES[series]
    is_soon_there = series in _SOON_THERE
    rounds, times = (1, _ROUNDS * _TURNS) if is_soon_there else (_ROUNDS, _TURNS)
    calls = _Calls()
    turns = [(calls.time(rounds), amid(count, lambda: calls.time(rounds))) for _ in range(times)]
    if is_soon_there:
        # A neighbour makes everything slower for a while, but seldom begins between two batches.
        ratio = quantile((with_them / without for without, with_them in turns), 0.5)
        base, ns = (quantile(found, 0.25) for found in zip(*turns, strict=True))
    else:
        # By turns, and the least of each: a neighbour adds, and takes nothing away.
        base, ns = (min(found) for found in zip(*turns, strict=True))
        ratio = ns / base
    if series == "concurrent":
        ms = [_together(count) for _ in range(wanted)]
    else:
        ms = [amid(count, _late) for _ in range(wanted)]
    channel.tell(base=base, ns=ns, ratio=ratio, ms=ms)


class _Calls:
    """What a watched call costs."""

    def __init__(self) -> None:
        self._watched = watch(noop)
        self._size, self._bare_size = batch_size(self._watched), batch_size(noop)

    def time(self, rounds: int) -> float:
        """Nanoseconds above bare, in the state that the process is in."""
        # Not of the differences: those are small where the unwatched batch was disturbed.
        bare = quantile((batch(noop, later(), self._bare_size) for _ in range(rounds)), 0.25)
        above = quantile((batch(self._watched, later(), self._size) for _ in range(rounds)), 0.25)
        return above / self._size - bare / self._bare_size


def _late(wait: Callable[[], Any] = lambda: time.sleep(30)) -> float:
    """Milliseconds from due until a waiting handler saw it."""
    late: list[float] = []

    @watch(grace_period=_GRACE)
    def handler(_event: object, _context: object) -> None:
        due = time.monotonic() + remaining_time() - _GRACE
        try:
            wait()
        except TimeoutError:
            late.append(time.monotonic() - due)

    handler(None, FakeContext(4 * _GRACE))
    return late[0] * 1000


def _with_hooks(count: int, then: Callable[[], float]) -> float:
    with contextlib.ExitStack() as hooks:
        for _ in range(count):
            hooks.enter_context(scoped_hook(int))
        return then()


def _at_depth(count: int, then: Callable[[], float]) -> float:
    return _at_depth(count - 1, then) if count > 1 else then()


def _beside_threads(count: int, then: Callable[[], float]) -> float:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        return then()
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _beside_calls(count: int, then: Callable[[], float]) -> float:
    """With so many less one under way in other threads."""
    over = threading.Event()
    there = threading.Barrier(count)

    def wait(_event: object, _context: object) -> None:
        there.wait()
        over.wait()

    others = [
        threading.Thread(target=watch(wait), args=(None, context())) for _ in range(count - 1)
    ]
    for other in others:
        other.start()
    there.wait()
    try:
        return then()
    finally:
        over.set()
        for other in others:
            other.join()


_SERIES: Final = {
    "hooks": _with_hooks,
    "depth": _at_depth,
    "threads": _beside_threads,
    "concurrent": _beside_calls,
}


def _invocations(channel: Channel, count: int) -> None:
    """Tell what a call costs, and the memory, after 1,000, 10,000, ... of them."""
    watched, made, mark = watch(noop), 0, 1000
    while mark <= count:
        while made < mark:
            batch(watched, context(later_ms=made), _BLOCK)
            made += _BLOCK
        given = context(later_ms=made)
        # By turns with a bare one, for what slows both down is not what is looked for: a neighbour
        # that comes between two marks.
        turns = [
            (batch(watched, given, _BLOCK), batch(noop, given, _BLOCK)) for _ in range(_BLOCKS)
        ]
        ns, bare = (quantile(found, 0.25) / _BLOCK for found in zip(*turns, strict=True))
        channel.tell(invocations=mark, ns=ns, bare=bare, rss=_resident())
        made += _BLOCK * _BLOCKS
        mark *= 10


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _together(count: int) -> float:
    """So many that are due at once, in threads, which look up every millisecond: the last one."""
    late: list[float] = []

    def one() -> None:
        with contextlib.suppress(Exception):
            late.append(_late(_look_up))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(late) < count:
        raise AssertionError(f"{count - len(late)} of {count} were not interrupted")
    return max(late)


def _look_up() -> None:
    while True:
        time.sleep(0.001)


if __name__ == "__main__":
    main(*sys.argv[1:])
