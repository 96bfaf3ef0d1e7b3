"""Where the second half of an invocation's time went.

The place where a timeout is interrupted is often not its cause: a handler that spent 80 % of its
time in one query can be interrupted in the next one. So the watchdog looks at the handler's stack
some times, evenly spaced, from half of the invocation's time on. An invocation that ends before
that is never looked at.

Thread: samples are taken by the watchdog's; they are summed up by the thread that writes the
record, once the grace period has begun and no more are taken.
"""

from __future__ import annotations

from watchdog_lambda._cpython.source import of_the_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack

BEGIN_SHARE = 0.5
"""The share of an invocation's time after which the first sample is taken."""

MOST_LINES = 10
"""Lines that the record names, those with the largest shares."""


class Samples:
    """The samples of one invocation."""

    __slots__ = ("_first_at", "_inner", "_last_at", "_lines", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self._first_at = self._last_at = 0.0
        # The handler's line -> how often it was met, and what it had called each time.
        self._lines: dict[tuple[str, int, str], int] = {}
        self._inner: dict[tuple[str, int, str], dict[tuple[str, int, str], int]] = {}

    def take(self, after: float, stack: Stack, source: SourceMap) -> None:
        """Count a `stack` that the handler's thread had `after` seconds from the start."""
        if not self.taken:
            self._first_at = after
        self._last_at = after
        self.taken += 1
        frames = of_the_handler(stack)
        own = next((i for i, (file, *_) in enumerate(frames) if source.is_own(file)), None)
        if own is None:
            return  # a library that no code of the handler's has called, or nothing at all
        line = frames[own]
        self._lines[line] = self._lines.get(line, 0) + 1
        if own:
            inner = self._inner.setdefault(line, {})
            inner[frames[0]] = inner.get(frames[0], 0) + 1

    def summary(self, source: SourceMap) -> dict[str, Any]:
        """For the record: how many samples over which span, and the shares, largest first."""
        lines: list[dict[str, Any]] = []
        for line, count in sorted(self._lines.items(), key=lambda item: -item[1])[:MOST_LINES]:
            told: dict[str, Any] = {"location": source.place(*line)}
            inner = self._inner.get(line)
            if inner:
                most = max(inner.values())
                called = next(place for place, count in inner.items() if count == most)
                told["in"] = source.place(*called)
            told["share"] = round(count / self.taken, 2)
            lines.append(told)
        return {
            "samples": self.taken,
            "from_ms": round(self._first_at * 1000),
            "to_ms": round(self._last_at * 1000),
            "lines": lines,
        }


def sample_times(count: int, hard: float, grace_at: float) -> list[float]:
    """When to take `count` samples, in seconds from the start.

    Evenly spaced from half of the time to the grace period. Later, hooks and cleanups would be
    taken for the handler's own work.
    """
    first = hard * BEGIN_SHARE
    return [first + i * (grace_at - first) / count for i in range(count)]
