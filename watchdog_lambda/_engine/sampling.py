"""Samples the handler's stack in the second half of an invocation's time.

The place where a timeout is interrupted is often not its cause: a handler that spent 80 % of its
time in one query can be interrupted in the next one. So the watchdog samples the handler's stack a
number of times, evenly spaced, from half of the invocation's time to the grace period. Later, hooks
and cleanups would be mistaken for the handler's own work.

An invocation that ends in the first half is never sampled. One that ends in the second half has no
:class:`.Firing`, so that its end is fast, and its samples are dropped.

Thread: only the watchdog's takes and uses the samples. It passes them to the firing before the
grace period begins, and takes none after that, so the code that writes the record only reads them.
"""

from __future__ import annotations

import math
import sys

from watchdog_lambda._config import SAMPLES_SHARE
from watchdog_lambda._cpython.loops import with_awaited
from watchdog_lambda._cpython.source import SourceMap, current_source
from watchdog_lambda._cpython.stacks import gc_paused, has_other_interpreters, stack_of

from .current import active, under_way
from .kernel_timers import NEAR
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
"""How many frames of a stack are examined, from the innermost on."""

PATIENCE = 4
"""How many times its average wait for the GIL the thread wakes before it acts. Which of the waiting
threads is next is chance, so one wait in 50 is longer than that."""

LATEST = 0.25
"""Seconds. No wait counts for more, so that the thread begins a second early at most."""


class Sampling:
    """The samples of all current invocations. Thread: watchdog."""

    __slots__ = ("_late", "_report", "_source", "_under_way", "near")

    def __init__(self, report: Report) -> None:
        self._report = report
        self._under_way: dict[Invocation, Samples] = {}
        self._source = SourceMap([])
        self._late = 0.0  # by how many seconds the thread wakes too late, averaged
        self.near = NEAR  # how many seconds before it acts the thread looks once more

    def look(self, invocation: Invocation, thread_id: int, now: float) -> float:
        """Take a sample if one is due at the instant `now`. Return when the next one is due.

        Infinity, if there is none.
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
        self._source = current_source()
        after = now - invocation.start
        if after + ROUNDING >= samples.next_at:
            self._take(samples, after)
        return invocation.start + samples.next_at

    def doze(self, thread: Sleeper, alarm: Alarm, wakes_at: float, until: float) -> None:
        """Sleep until the instant `wakes_at`, or until rung.

        If there is only one invocation, and only samples of it are due before `until`, keep
        sleeping from sample to sample. The kernel's timers stay as they are in this time, because
        what they are set for does not change. Setting them again took more CPU time than the
        sample.
        """
        now = thread.clock.monotonic
        known = [*self._under_way.items()]
        one, samples = known[0] if len(known) == 1 else (None, None)
        while alarm.wait(wakes_at - now()):
            woken_at = now()
            if one is None or samples is None or not one.is_open or one.firing is not None:
                return
            # Not where the invocation has ended: then the sandbox may have been frozen.
            self._late = (self._late + min(max(woken_at - wakes_at, 0.0), LATEST)) / 2
            self.near = max(NEAR, PATIENCE * self._late)
            last = until - self.near
            if woken_at >= last:
                return
            after = woken_at - one.start
            if after + ROUNDING >= samples.next_at:
                self._take(samples, after)
            # As in the thread's own loop: store, then look whether an invocation was armed in
            # between, which may not have rung. Pinned by
            # test_invocation_armed_during_sample_is_not_missed.
            thread.wake_at = one.due = wakes_at = min(one.start + samples.next_at, last)
            if not one.is_open or (len(active) > 1 and len(under_way()) > 1):
                return

    def _take(self, samples: Samples, after: float) -> None:
        try:
            samples.add(after, self._look_at(samples.thread_id))
        except MemoryError:
            raise  # the thread continues once there is memory again
        except Exception as error:  # noqa: BLE001 - the invocation is watched all the same
            self._report.write_failure(error)
            samples.next_at = math.inf

    def _look_at(self, thread_id: int) -> Places:
        if not has_other_interpreters():
            with gc_paused():
                found = self._source.places_from(sys._current_frames().get(thread_id), MOST_FRAMES)
            if found is not None:
                return found
        # The handler awaits something, or there is only a library that user code has not called.
        stack = with_awaited(stack_of(thread_id, MOST_FRAMES), thread_id, self._source)
        return places(stack, self._source)

    def of(self, invocation: Invocation) -> Samples | None:
        """Return the samples of an invocation, if there are any."""
        return self._under_way.get(invocation)

    def keep(self, invocations: Iterable[Invocation]) -> None:
        """Drop the samples of all other invocations, which have ended."""
        for ended in self._under_way.keys() - invocations:
            del self._under_way[ended]
