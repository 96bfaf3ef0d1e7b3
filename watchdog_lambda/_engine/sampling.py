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
import sys

from watchdog_lambda._config import SAMPLES_SHARE
from watchdog_lambda._cpython.loops import with_awaited
from watchdog_lambda._cpython.source import SourceMap, current_path
from watchdog_lambda._cpython.stacks import gc_paused, has_other_interpreters, stack_of

from .current import active, under_way
from .samples import ROUNDING, Samples, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from watchdog_lambda._cpython.source import Places

    from .clock import Alarm, Clock
    from .invocation import Invocation
    from .services import Report

    class Sleeper(Protocol):
        """The watchdog's thread."""

        clock: Clock
        wake_at: float


MOST_FRAMES = 100
"""Frames of a stack that are looked at, the innermost."""


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
            samples = self._under_way[invocation] = Samples(thread_id)
            if firing is not None:
                firing.samples = samples
        timeline = invocation.timeline()
        first = timeline.limit * SAMPLES_SHARE
        samples.spread(first, timeline.grace_at, invocation.plan.settings.samples)
        path = current_path()
        if path != self._path:
            self._path, self._source = path, SourceMap(path)
        after = now - invocation.start
        if after + ROUNDING >= samples.next_at:
            self._take(samples, after)
        return invocation.start + samples.next_at

    def doze(self, thread: Sleeper, alarm: Alarm, wakes_at: float, until: float) -> None:
        """Sleep until the instant `wakes_at`, or until rung.

        If one invocation is under way and no other, and a sample of it is all that is due before
        `until`, sleep on from sample to sample. The kernel's timers stand as they are meanwhile:
        what they are set for has not changed. To set them anew took more processor time than the
        sample.
        """
        now = thread.clock.monotonic
        known = [*self._under_way.items()]
        one, samples = known[0] if len(known) == 1 else (None, None)
        while alarm.wait(wakes_at - now()):
            if wakes_at >= until or one is None or samples is None or one.firing is not None:
                return
            after = now() - one.start
            if after + ROUNDING >= samples.next_at:
                self._take(samples, after)
            # As in the thread's own loop: store, then look who has been armed in between, and may
            # not have rung. Pinned by test_what_is_armed_beside_a_sample_is_not_missed.
            thread.wake_at = one.due = wakes_at = min(one.start + samples.next_at, until)
            if not one.is_open or (len(active) > 1 and len(under_way()) > 1):
                return

    def _take(self, samples: Samples, after: float) -> None:
        try:
            samples.add(after, self._look_at(samples.thread_id))
        except MemoryError:
            raise  # the thread goes on as soon as there is some again
        except Exception as error:  # noqa: BLE001 - the invocation is watched all the same
            self._report.write_failure(error)
            samples.next_at = math.inf

    def _look_at(self, thread_id: int) -> Places:
        if not has_other_interpreters():
            with gc_paused():
                found = self._source.places_from(sys._current_frames().get(thread_id), MOST_FRAMES)
            if found is not None:
                return found
        # What is awaited, or a library that no code of the handler's has called.
        stack = with_awaited(stack_of(thread_id, MOST_FRAMES), thread_id, self._source)
        return places(stack, self._source)

    def of(self, invocation: Invocation) -> Samples | None:
        """The samples of an invocation, if there are any."""
        return self._under_way.get(invocation)

    def keep(self, invocations: Iterable[Invocation]) -> None:
        """Drop the samples of all others: they have ended."""
        for ended in self._under_way.keys() - invocations:
            del self._under_way[ended]
