"""One contender in a process of its own: times batches of calls, whenever it is told to.

python -m benchmarks.costs.calls_child NAME
"""

from __future__ import annotations

import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from benchmarks.child import Channel, end_with_parent

from .contenders import CONTENDERS, context
from .handlers import noop
from .report import quantile

if TYPE_CHECKING:
    from .handlers import Handler

_BATCH_NS = 2_000_000  # long beside the clock's resolution, short beside a scheduler's turn


def main(name: str) -> None:
    """Tell whether it is here; then one line for each line that comes."""
    end_with_parent()
    channel = Channel()
    given = context()
    try:
        handler = CONTENDERS[name].wrap(noop)
        size, bare_size = batch_size(handler, given), batch_size(noop, given)
    except ImportError as error:
        channel.tell(missing=str(error))
        return
    channel.tell(size=size)
    for line in sys.stdin:
        if line.startswith("singles"):
            channel.tell(**_singles(handler, given, int(line.split()[1])))
            continue
        # The unwatched ones just before, in the same process: what is left is the watching.
        bare = batch(noop, given, bare_size) / bare_size
        channel.tell(bare=bare, watched=batch(handler, given, size) / size)


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


def batch_size(handler: Handler, given: Any) -> int:
    """How many calls make a batch."""
    batch(handler, given, 50)  # whatever starts at the first call has started
    size = 1
    while (taken := batch(handler, given, size)) < _BATCH_NS // 4:
        size *= 2
    return max(1, size * _BATCH_NS // taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
