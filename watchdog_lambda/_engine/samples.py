"""What the samples of one invocation's stack have shown, and how the record tells it.

Thread: the watchdog's adds them; the record is written after the last one has been added.
"""

from __future__ import annotations

from watchdog_lambda._cpython.source import of_the_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack

MOST_LINES = 10
"""Lines that the record names, those with the largest shares."""


class Samples:
    """The samples of one invocation. Its instants are in seconds since the invocation's start."""

    __slots__ = ("_first_at", "_inner", "_last_at", "_lines", "has_failed", "taken")

    def __init__(self) -> None:
        self.taken = 0  # or missed, and counted with the one that was taken instead
        self.has_failed = False  # to take one; no more are taken
        self._first_at = self._last_at = 0.0
        # The handler's line -> how often it was met, and what it had called each time.
        self._lines: dict[tuple[str, int, str], int] = {}
        self._inner: dict[tuple[str, int, str], dict[tuple[str, int, str], int]] = {}

    def add(self, after: float, stack: Stack, source: SourceMap, weight: int = 1) -> None:
        """Count a `stack` that the handler's thread had `after` seconds from the start.

        A `weight` above 1 is that of a look which came late, because C code held the GIL, and
        stands for those that were missed: the GIL comes free where that code returns.
        """
        if not self.taken:
            self._first_at = after
        self._last_at = after
        self.taken += weight
        frames = of_the_handler(stack)
        own = next((i for i, (file, *_) in enumerate(frames) if source.is_own(file)), None)
        if own is None:
            return  # a library that no code of the handler's has called, or nothing at all
        line = frames[own]
        self._lines[line] = self._lines.get(line, 0) + weight
        if own:
            inner = self._inner.setdefault(line, {})
            inner[frames[0]] = inner.get(frames[0], 0) + weight

    def summary(self, source: SourceMap) -> dict[str, Any]:
        """For the record: how many samples over which span, and the shares, largest first."""
        lines: list[dict[str, Any]] = []
        for line, count in sorted(self._lines.items(), key=lambda item: -item[1])[:MOST_LINES]:
            told: dict[str, Any] = {"location": source.place(*line)}
            inner = self._inner.get(line)
            if inner:
                told["in"] = source.place(*max(inner, key=inner.__getitem__))
            told["share"] = round(count / self.taken, 2)
            lines.append(told)
        return {
            "samples": self.taken,
            "from_ms": round(self._first_at * 1000),
            "to_ms": round(self._last_at * 1000),
            "lines": lines,
        }
