"""The time that a call takes, by the way its handler is watched."""

from __future__ import annotations

import statistics
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from .contenders import context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contenders import Contender, Handler

_BATCH_NS = 2_000_000  # long beside the clock's resolution, short beside a scheduler's turn


class CallTime(NamedTuple):
    """One contender's calls; nanoseconds each."""

    name: str
    median: float
    above_bare: float
    """The median of the differences from the unwatched batch just before."""
    ratio: float
    p99: float
    """Of batches, so a pause that hits one call shows as its share of the batch."""
    calls: int


def measure(contenders: Sequence[Contender], rounds: int) -> list[CallTime]:
    """Call each of them in turn, `rounds` times: A B C A B C, so that all see the same machine."""
    given = context()
    sizes = [_size(contender.handler, given) for contender in contenders]
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, size, found in zip(contenders, sizes, times, strict=True):
            found.append(_batch(contender.handler, given, size) / size)
    bare = times[0]
    return [
        CallTime(
            contender.name,
            median := statistics.median(found),
            statistics.median(t - b for t, b in zip(found, bare, strict=True)),
            median / statistics.median(bare),
            statistics.quantiles(found, n=100)[98],
            size * rounds,
        )
        for contender, size, found in zip(contenders, sizes, times, strict=True)
    ]


def _batch(handler: Handler, given: Any, size: int) -> int:
    calls = range(size)
    began = perf_counter_ns()
    for _ in calls:
        handler(None, given)
    return perf_counter_ns() - began


def _size(handler: Handler, given: Any) -> int:
    """How many calls make a batch; also warms the handler up."""
    size = 1
    while (taken := _batch(handler, given, size)) < _BATCH_NS // 4:
        size *= 2
    return max(1, size * _BATCH_NS // taken)
