"""Where the second half of an invocation's time went.

The place where a timeout is interrupted is often not its cause: a handler that spent 80 % of its
time in one query can be interrupted in the next one. So the watchdog looks at the handler's stack
a number of times, evenly spaced, from half of the invocation's time to the grace period. Later,
hooks and cleanups would be taken for the handler's own work.

An invocation that ends in the first half is never looked at. One that ends in the second half has
no :class:`.Firing`, so that its end takes the short way, and its samples are dropped.

Thread: the watchdog's takes the samples and alone knows of them. It hands them to the firing before
the grace period begins, and takes none after that, so the code that writes the record only reads.
"""

from __future__ import annotations

import math

from watchdog_lambda._config import SAMPLES_SHARE
from watchdog_lambda._cpython.loops import with_awaited
from watchdog_lambda._cpython.source import SourceMap, current_path
from watchdog_lambda._cpython.stacks import stack_of

from .samples import Samples

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from watchdog_lambda._cpython.stacks import Stack

    from .invocation import Invocation
    from .services import Report

ROUNDING = 1e-6
"""Seconds: what is lost of an instant of the monotonic clock when the start is subtracted again."""

USUAL_FRAMES, MOST_FRAMES = 25, 100
"""Frames of a stack that are looked at, the innermost; the rest where the first show no code of the
user's. A frame costs half a microsecond."""


class Sampling:
    """The samples of all invocations that are under way. Thread: watchdog."""

    __slots__ = ("_path", "_report", "_source", "_under_way")

    def __init__(self, report: Report) -> None:
        self._report = report
        self._under_way: dict[Invocation, Samples] = {}
        # Kept, for it lists folders; made anew where the path has changed.
        self._source = SourceMap([])
        self._path: list[str] = []

    def look(self, invocation: Invocation, thread_id: int, now: float) -> float:
        """Take a sample if one is due at the instant `now`; when the next one is.

        Infinity, if none is to come.
        """
        firing = invocation.firing
        if not invocation.is_sampled() or not invocation.is_open or invocation.has_fired():
            return math.inf
        if firing is None and now < invocation.due:
            return invocation.due
        samples = self._under_way.get(invocation)
        if samples is None:
            samples = self._under_way[invocation] = Samples()
            if firing is not None:
                firing.samples = samples
        if samples.has_failed:
            return math.inf
        after = now - invocation.start
        times = sample_times(invocation)
        missed = sum(at <= after + ROUNDING for at in times) - samples.taken
        if missed > 0:
            self._take(samples, after, thread_id, missed)
        to_come = () if samples.has_failed else times[samples.taken :]
        return invocation.start + to_come[0] if to_come else math.inf

    def _take(self, samples: Samples, after: float, thread_id: int, weight: int) -> None:
        try:
            source = self._code()
            samples.add(after, _seen(thread_id, source), source, weight)
        except MemoryError:
            raise  # the thread goes on as soon as there is some again
        except Exception as error:  # noqa: BLE001 - the invocation is watched all the same
            self._report.write_failure(error)
            samples.has_failed = True

    def of(self, invocation: Invocation) -> Samples | None:
        """The samples of an invocation, if there are any."""
        return self._under_way.get(invocation)

    def keep(self, invocations: Iterable[Invocation]) -> None:
        """Drop the samples of all others: they have ended."""
        for ended in self._under_way.keys() - invocations:
            del self._under_way[ended]

    def _code(self) -> SourceMap:
        path = current_path()
        if path != self._path:
            self._path, self._source = path, SourceMap(path)
        return self._source


def _seen(thread_id: int, source: SourceMap) -> Stack:
    stack = stack_of(thread_id, USUAL_FRAMES)
    if len(stack) == USUAL_FRAMES and not source.has_own(stack):
        stack = stack_of(thread_id, MOST_FRAMES)
    return with_awaited(stack, thread_id, source)


def sample_times(invocation: Invocation) -> list[float]:
    """When samples are due, in seconds from the start: from half of the time to the grace period.

    Evenly spaced; the grace period itself is not among them.
    """
    count = invocation.plan.settings.samples
    timeline = invocation.timeline()
    first = timeline.limit * SAMPLES_SHARE
    return [first + i * (timeline.grace_at - first) / count for i in range(count)]
