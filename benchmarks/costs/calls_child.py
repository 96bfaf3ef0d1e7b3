"""One contender in a process of its own: times batches of calls, whenever it is told to.

python -m benchmarks.costs.calls_child NAME
"""

from __future__ import annotations

import sys
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.child import Channel, end_with_parent

from .contenders import CONTENDERS, context
from .handlers import noop
from .report import quantile

if TYPE_CHECKING:
    from .handlers import Handler

_BATCH_NS = 700_000  # long beside the clock's resolution; two are short beside a scheduler's turn


def main(name: str) -> None:
    """Tell whether it is here; then one line for each line that comes."""
    end_with_parent()
    channel = Channel()
    try:
        handler = CONTENDERS[name].wrap(noop)
        size, bare_size = batch_size(handler), batch_size(noop)
    except ImportError as error:
        channel.tell(missing=str(error))
        return
    channel.tell(size=size)
    for line in sys.stdin:
        given = later()
        if line.startswith("singles"):
            channel.tell(**_singles(handler, given, int(line.split()[1])))
            continue
        # The unwatched ones just before, in the same process: what is left is the watching.
        bare = batch(noop, given, bare_size) / bare_size
        channel.tell(bare=bare, watched=batch(handler, given, size) / size)


def later() -> Any:
    """A context whose deadline is later than that of the first calls, as every later one's is.

    The same deadline would seem to come earlier by up to a millisecond, since the runtime tells
    whole ones, and our thread be rung for that.
    """
    return context(later_ms=1000)


def batch(handler: Handler, given: Any, size: int) -> int:
    """Nanoseconds for so many calls."""
    calls = range(size)
    began = perf_counter_ns()
    for _ in calls:
        handler(None, given)
    return perf_counter_ns() - began


def _singles(handler: Handler, given: Any, calls: int) -> dict[str, float]:
    """Each call by itself, two readings of the clock included."""
    found = [batch(handler, given, 1) for _ in range(calls)]
    return {"p50": quantile(found, 0.5), "p99": quantile(found, 0.99), "calls": calls}


def batch_size(handler: Handler) -> int:
    """How many calls make a batch."""
    batch(handler, context(), 50)
    sleep(0.05)  # whatever starts at the first call has started, and has had its turn
    size = 1
    # The shortest of some: a turn of the scheduler's must not pass for the calls' own time, or a
    # batch would be a few calls with cold caches.
    while (taken := min(batch(handler, later(), size) for _ in range(3))) < _BATCH_NS // 4:
        size *= 2
    return max(1, size * _BATCH_NS // taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
