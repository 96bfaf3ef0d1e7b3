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
from watchdog_lambda import remaining_time, shutdown_hook, watch

from .calls_child import batch, batch_size
from .contenders import context
from .handlers import noop
from .report import quantile

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS: Final = 60
_GRACE: Final = 0.3
_BLOCK: Final = 250
_BLOCKS: Final = 20
"""So many times so many calls are timed at each mark."""


class _Context:
    aws_request_id = "growth"
    function_name = "growth"
    function_version = "1"

    def get_remaining_time_in_millis(self) -> float:
        return 4 * _GRACE * 1000


def main(series: str, amount: str, timeouts: str) -> None:
    """Tell one line: what a call costs and how late the interrupts were; or one for each mark."""
    end_with_parent()
    channel = Channel()
    count, wanted = int(amount), int(timeouts)
    if series == "invocations":
        _invocations(channel, count)
    elif series == "concurrent":
        base = _call()
        late = [_together(count) for _ in range(wanted)]
        channel.tell(base=base, ns=_beside(count), ms=late)
    else:
        base = _call()
        _SERIES[series](
            count,
            lambda: channel.tell(base=base, ns=_call(), ms=[_late() for _ in range(wanted)]),
        )


def _call() -> float:
    """Nanoseconds above bare, of a watched call in the state that the process is in."""
    watched = watch(noop)
    size, bare_size = batch_size(watched), batch_size(noop)

    def above_bare() -> float:
        given = context()  # each later than the one before; see calls_child
        return batch(watched, given, size) / size - batch(noop, given, bare_size) / bare_size

    # A neighbour adds, and takes nothing away.
    return quantile((above_bare() for _ in range(_ROUNDS)), 0.25)


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

    handler(None, _Context())
    return late[0] * 1000


def _with_hooks(count: int, then: Callable[[], None]) -> None:
    for _ in range(count):
        shutdown_hook(lambda _details: None)
    then()


def _at_depth(count: int, then: Callable[[], None]) -> None:
    if count > 1:
        _at_depth(count - 1, then)
    else:
        then()


def _beside_threads(count: int, then: Callable[[], None]) -> None:
    over = threading.Event()
    for _ in range(count):
        threading.Thread(target=over.wait, daemon=True).start()
    then()


_SERIES: Final = {"hooks": _with_hooks, "depth": _at_depth, "threads": _beside_threads}


def _invocations(channel: Channel, count: int) -> None:
    """Tell what a call costs, and the memory, after 1,000, 10,000, ... of them."""
    watched, made, mark = watch(noop), 0, 1000
    while mark <= count:
        while made < mark:
            batch(watched, context(later_ms=made), _BLOCK)
            made += _BLOCK
        given = context(later_ms=made)
        found = [batch(watched, given, _BLOCK) / _BLOCK for _ in range(_BLOCKS)]
        channel.tell(invocations=mark, ns=quantile(found, 0.25), rss=_resident())
        made += _BLOCK * _BLOCKS
        mark *= 10


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _beside(count: int) -> float:
    """A call, with so many less one under way in other threads."""
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
    found = _call()
    over.set()
    for other in others:
        other.join()
    return found


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
