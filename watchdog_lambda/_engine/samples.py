"""The samples of one invocation: when they are due, what they have shown, and their summary.

Thread: the watchdog's adds them; the record is written after the last one has been added.
"""

from __future__ import annotations

import math

from watchdog_lambda._cpython.source import of_the_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from watchdog_lambda._cpython.source import Places, SourceMap
    from watchdog_lambda._cpython.stacks import Place, Stack

MOST_LINES = 10
"""How many lines the record names, those with the largest shares."""

ROUNDING = 1e-6
"""Seconds. The rounding error of an instant from which the start is subtracted again."""


class Samples:
    """The samples of one invocation. Its instants are in seconds since the invocation's start."""

    __slots__ = (
        "_count",
        "_first",
        "_first_at",
        "_last",
        "_last_at",
        "_seen",
        "_step",
        "next_at",
        "taken",
        "thread_id",
    )

    def __init__(self, thread_id: int = 0) -> None:
        self.thread_id = thread_id  # the handler's
        self.taken = 0  # including missed ones, which count with the next one taken
        self.next_at = -math.inf  # infinity, if there is no further one
        self._count, self._first, self._step = 0, 0.0, 1.0
        self._first_at = self._last_at = 0.0
        self._seen: dict[Places, int] = {}
        self._last: Places | None = None

    def spread(self, first: float, end: float, count: int) -> None:
        """Schedule `count` samples from `first` on, evenly spaced, before `end`."""
        step = (end - first) / count
        if (first, step, count) != (self._first, self._step, self._count):
            self._first, self._step, self._count = first, step, count
            self.next_at = self._at(self.taken)

    def _at(self, number: int) -> float:
        return self._first + self._step * number if number < self._count else math.inf

    def add(self, after: float, seen: Places) -> None:
        """Count what was `seen` in the handler's thread `after` seconds from the start.

        It also counts for earlier samples that were due but not taken. Either this look is late,
        because C code held the GIL, which it releases where it returns. Or a sample was skipped,
        because two looks in a row had shown the same: a wake-up of the thread costs more than all
        its work, and for a handler that waits in one place half of the looks suffice.
        """
        count, taken = self._count, self.taken
        if not taken:
            self._first_at = after
        self._last_at = after
        self.taken = passed = min(
            max(int((after + ROUNDING - self._first) / self._step), taken) + 1, count
        )
        self._seen[seen] = self._seen.get(seen, 0) + passed - taken
        # The last sample is never skipped.
        self.next_at = self._at(passed + (seen == self._last and passed < count - 1))
        self._last = seen

    def summary(self, source: SourceMap) -> dict[str, Any]:
        """Return number, span and shares of the samples for the record, the largest share first."""
        counts: dict[Place, int] = {}
        inner: dict[Place, dict[Place, int]] = {}
        for (line, called), count in self._seen.items():
            if line is not None:
                counts[line] = counts.get(line, 0) + count
                if called is not None:
                    inner.setdefault(line, {})[called] = count
        lines: list[dict[str, Any]] = []
        for line, count in sorted(counts.items(), key=lambda item: -item[1])[:MOST_LINES]:
            told: dict[str, Any] = {"location": source.place(*line)}
            if line in inner:
                told["in"] = source.place(*max(inner[line], key=inner[line].__getitem__))
            told["share"] = round(count / self.taken, 2)
            lines.append(told)
        return {
            "samples": self.taken,
            "from_ms": round(self._first_at * 1000),
            "to_ms": round(self._last_at * 1000),
            "lines": lines,
        }


def places(stack: Stack, source: SourceMap) -> Places:
    """Return the two lines of the handler's part of a whole stack; None for a missing one."""
    frames = of_the_handler(stack)
    own = next((i for i, (file, *_) in enumerate(frames) if source.is_own(file)), None)
    if own is None:
        return None, None
    return frames[own], frames[0] if own else None
