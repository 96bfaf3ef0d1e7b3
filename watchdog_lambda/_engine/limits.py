"""The limits of blocks, which the watchdog sees to as it does to invocations.

A thread's limits are nested as its blocks are. :data:`innermost` has each thread's innermost one,
and each limit knows the one around it; the thread writes its own entry, the watchdog reads all. The
invocation, where there is one, is the outermost limit of all. Each has a firing of its own once it
is due, with the four orders of :mod:`.invocation`; what lands is decided for the outermost first.

Two rules hold between the limits of one thread:

- One injected interrupt at a time: a thread has room for one. Pinned by
  test_limits_that_are_due_at_once_all_end_with_the_outermost.
- What cleans up after one is left alone by the others, unless they have begun in that cleanup.
"""

from __future__ import annotations

import math
import sys
from _thread import get_ident

from watchdog_lambda.errors import TimeLimitExceeded

from .clock import Timeline
from .current import invocation_of, under_way
from .invocation import Invocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterator
    from typing import Any

    from watchdog_lambda._plan import Plan

    from .rungs import Kind

PATIENCE = 1.0
"""Seconds, or a quarter of the limit if that is longer: what an ``__exit__`` that only waits gets
once its block has been interrupted. A cleanup that works is left alone."""


class LimitTimeline(Timeline):
    """What is due when in a block: its limit, and nothing else. Nobody kills, so nothing is last.

    ``grace_at`` is the limit, from which on interrupts land.
    """

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        self.grace_at = seconds
        self.grace_period = max(PATIENCE, seconds / 4)
        self.hook_budget = 0.0
        self.limit = seconds + self.grace_period  # from then on it is tried less often
        self.last_call_at = self.overdue_at = self.dump_at = math.inf

    def wait_ends(self, landed_at: float) -> float:
        return landed_at + self.grace_period


class Limit(Invocation):
    """One block's limit."""

    __slots__ = ("is_cancelled", "outer", "thread_id")

    first_kind: Kind = TimeLimitExceeded

    def __init__(self, plan: Plan, start: float, seconds: float) -> None:
        super().__init__(plan, None, None, start, seconds, start + seconds)
        self.thread_id = get_ident()
        self.outer = innermost.get(self.thread_id)
        self.is_cancelled = False  # a task's block, through its task

    def begin(self) -> None:
        """Have the watchdog see it from now on. Thread: the block's."""
        innermost[self.thread_id] = self

    def end(self) -> None:
        """Have the watchdog see it no more. Idempotent. Thread: the block's."""
        inner, outer = innermost.get(self.thread_id), self.outer
        if inner is not self:
            found = [*chain(inner)]
            if self not in found:
                return
            # From the outside in: the watchdog may walk the chain meanwhile, and misses none then.
            for limit in reversed(found[: found.index(self)]):
                if limit.outlives(self):
                    limit.outer = outer
                    outer = limit
                else:
                    limit.close()
        if outer is None:
            innermost.pop(self.thread_id, None)
        else:
            innermost[self.thread_id] = outer

    def close(self) -> None:
        """Have nothing of it land from here on. Idempotent. Thread: the block's."""
        # Close, then read the firing; see invocation.py.
        self.is_open = False
        if self.firing is not None:
            self.firing.settle()

    def outlives(self, _outer: Limit) -> bool:
        """Whether it goes on where one around it ends, and it has not. Thread: the block's."""
        return False

    def timeline(self) -> Timeline:
        return LimitTimeline(self.limit)

    def may_be_interrupted(self) -> bool:
        """Always: that is what it is for."""
        return True

    def is_sampled(self) -> bool:
        """Never: nothing is recorded of a block."""
        return False

    def cancel_soon(self) -> None:
        """The limit is reached: have the block's task cancelled, if any. Thread: watchdog."""

    def message(self, after: float, place: str) -> str:
        """What an interrupt says that lands `after` seconds from the start. Thread: any."""
        return f"interrupted after {after:.1f} s, the limit of this block, in {place}"


class TaskLimit(Limit):
    """The limit of a block in a coroutine: other tasks run between its steps.

    While it waits it is cancelled through its task, as anything in asyncio is. Only while the task
    runs, and the loop cannot turn, an interrupt lands in it.
    """

    __slots__ = ("_loop", "_task")

    def __init__(self, plan: Plan, start: float, seconds: float, task: Task[Any]) -> None:
        super().__init__(plan, start, seconds)
        self._task = task
        self._loop = task.get_loop()

    def close(self) -> None:
        """Have nothing of it land from here on. Idempotent. Thread: the block's."""
        # Close, then read the firing; see invocation.py.
        self.is_open = False
        if self.firing is not None:
            self.firing.settle()

    def outlives(self, outer: Limit) -> bool:
        """If that is another task's: they only look nested, by the order in which they began."""
        return isinstance(outer, TaskLimit) and outer._task is not self._task

    def cancel_soon(self) -> None:
        """Have the loop cancel the task. Thread: watchdog."""
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            pass  # the loop has been closed with the block in it

    def may_land(self) -> bool:
        """Whether the task is the one that runs. Thread: any; exact in the block's alone."""
        return sys.modules["asyncio"].current_task(self._loop) is self._task

    def uncancel(self) -> int:
        """Undo the cancellation; how many are left. Thread: the block's."""
        return self._task.uncancel()

    def _cancel(self) -> None:
        # In the loop's thread, between two steps: the task waits in the block, or has left it.
        if self.is_open:
            self.is_cancelled = True
            self._task.cancel()


innermost: dict[int, Limit] = {}
"""Thread id -> the innermost limit of its blocks; empty for most."""


def end_within(invocation: Invocation, thread_id: int) -> None:
    """End what was begun in an invocation and never ended, as in a generator; tasks may go on.

    Pinned by test_a_block_that_is_never_left_ends_with_its_invocation.

    Thread: the invocation's, at its end.
    """
    for limit in [*chain(innermost.get(thread_id))]:
        if limit.start >= invocation.start and not isinstance(limit, TaskLimit):
            limit.close()
            limit.end()


def chain(limit: Limit | None) -> Iterator[Limit]:
    """A limit and those around it, the innermost first."""
    while limit is not None:
        yield limit
        limit = limit.outer


def watched() -> list[tuple[int, Invocation]]:
    """Every invocation and every block's limit, with its thread. Thread: any."""
    found = under_way()
    if innermost:
        found += [
            (thread_id, limit)
            for thread_id, inner in list(innermost.items())
            for limit in chain(inner)
        ]
    return found


def next_act(wakes_at: float) -> float:
    """When the watchdog acts next if it wakes at `wakes_at`, which may be for a sample only.

    Infinity if nobody is under way.

    Thread: watchdog.
    """
    if wakes_at == math.inf:
        return wakes_at
    acts = min((invocation.acts_at() for _, invocation in watched()), default=math.inf)
    return max(wakes_at, acts)


def of_thread(thread_id: int) -> list[Invocation]:
    """What limits a thread: its invocation, then its blocks, the outermost first. Thread: any."""
    invocation = invocation_of(thread_id)
    found: list[Invocation] = [] if invocation is None else [invocation]
    if innermost:
        found[len(found) :] = reversed([*chain(innermost.get(thread_id))])
    return found


def cleans_up_for_another(
    invocation: Invocation, thread_id: int, handled: BaseException | None
) -> bool:
    """Whether what a thread handles is another one's interrupt, landed since this one began.

    Thread: any.
    """
    if handled is None or not innermost:
        return False
    for other in of_thread(thread_id):
        firing = other.firing
        if other is invocation or firing is None or not firing.policy.involves(handled):
            continue
        last = firing.policy.records[-1]
        if other.start + last.at >= invocation.start:
            return True
    return False
