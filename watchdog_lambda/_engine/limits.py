"""The limits of blocks, which the watchdog treats like invocations.

A thread's limits are nested like its blocks. :data:`innermost` has each thread's innermost limit,
and each limit knows the one around it. A thread writes only its own entry; the watchdog reads all.
The invocation, if there is one, is the outermost limit. Each limit gets its own firing once it is
due, with the four orders of :mod:`.invocation`; what lands is decided for the outermost first.

Two rules apply between the limits of one thread:

- Only one interrupt may be injected at a time, because a thread has room for one. Pinned by
  test_limits_due_together_end_with_the_outermost.
- The cleanup after one limit is not interrupted by the others, unless they began in that cleanup.
"""

from __future__ import annotations

import math
from _thread import get_ident

from watchdog_lambda.errors import TimeLimitExceeded

from .clock import Timeline
from .current import invocation_of, under_way
from .invocation import Invocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog_lambda._plan import Plan
    from watchdog_lambda.errors import Interrupt

    from .rungs import Kind

PATIENCE = 1.0
"""Seconds, or a quarter of the limit if that is longer, that an ``__exit__`` which only waits gets
once its block has been interrupted. Other cleanups are not interrupted."""


class LimitTimeline(Timeline):
    """The timeline of a block. There is no kill, so there is no last call either.

    ``grace_at`` is the limit, from which on interrupts land.
    """

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        self.grace_at = seconds
        self.grace_period = max(PATIENCE, seconds / 4)
        self.hook_budget = 0.0
        self.limit = seconds + self.grace_period  # from then on interrupts are tried less often
        self.last_call_at = self.overdue_at = self.dump_at = math.inf

    def wait_ends(self, landed_at: float) -> float:
        return landed_at + self.grace_period


class Limit(Invocation):
    """One block's limit."""

    __slots__ = ("is_cancelled", "outer", "thread_id")

    place = ""
    """Where the block's task waited when it was cancelled."""

    thrown: Interrupt | None = None
    """What was raised in the block's task because it had swallowed that."""

    first_kind: Kind = TimeLimitExceeded

    def __init__(self, plan: Plan, start: float, seconds: float) -> None:
        super().__init__(plan, None, None, start, seconds, start + seconds)
        self.thread_id = get_ident()
        self.outer = innermost.get(self.thread_id)
        self.is_cancelled = False  # whether a coroutine's block was cancelled through its task

    def begin(self) -> None:
        """Make the limit visible to the watchdog. Thread: the block's."""
        innermost[self.thread_id] = self

    def end(self) -> None:
        """Hide the limit from the watchdog. Idempotent. Thread: the block's."""
        inner, outer = innermost.get(self.thread_id), self.outer
        if inner is not self:
            found = [*chain(inner)]
            if self not in found:
                return
            # From the outside in, so that the watchdog misses none if it walks the chain meanwhile.
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
        """Return whether it continues although one around it ends first. Thread: the block's."""
        return False

    def outlives_invocation(self) -> bool:
        """Return whether it continues after the invocation. Thread: the block's."""
        return False

    def timeline(self) -> Timeline:
        return LimitTimeline(self.limit)

    def may_be_interrupted(self) -> bool:
        """Return True: that is what a limit is for."""
        return True

    def is_sampled(self) -> bool:
        """Return False: there is no record of a block."""
        return False

    def cancel_soon(self) -> None:
        """End what the block's task waits for, if it has one: the limit is reached.

        May be called repeatedly. Thread: watchdog.
        """

    def message(self, after: float, place: str) -> str:
        """Return the message of an interrupt `after` seconds from the start. Thread: any."""
        return f"interrupted after {after:.1f} s, the limit of this block, in {place}"


innermost: dict[int, Limit] = {}
"""Thread id -> the innermost limit of its blocks. Usually empty."""


def end_within(invocation: Invocation, thread_id: int) -> None:
    """End blocks that an invocation never left, as in a generator. Blocks of tasks may continue.

    Pinned by test_unfinished_block_ends_with_its_invocation.

    Thread: the invocation's, at its end.
    """
    for limit in [*chain(innermost.get(thread_id))]:
        if limit.start >= invocation.start and not limit.outlives_invocation():
            limit.close()
            limit.end()


def chain(limit: Limit | None) -> Iterator[Limit]:
    """Yield a limit and those around it, innermost first."""
    while limit is not None:
        yield limit
        limit = limit.outer


def watched() -> list[tuple[int, Invocation]]:
    """Return every invocation and every block's limit, with its thread. Thread: any."""
    found = under_way()
    if innermost:
        found += [
            (thread_id, limit)
            for thread_id, inner in list(innermost.items())
            for limit in chain(inner)
        ]
    return found


def next_act(wakes_at: float) -> float:
    """Return when the watchdog acts next if it wakes at `wakes_at`, which may be only for a sample.

    Infinity if there is no invocation or limit.

    Thread: watchdog.
    """
    if wakes_at == math.inf:
        return wakes_at
    acts = min((invocation.acts_at() for _, invocation in watched()), default=math.inf)
    return max(wakes_at, acts)


def of_thread(thread_id: int) -> list[Invocation]:
    """Return a thread's invocation and its blocks' limits, the outermost first. Thread: any."""
    invocation = invocation_of(thread_id)
    found: list[Invocation] = [] if invocation is None else [invocation]
    if innermost:
        found[len(found) :] = reversed([*chain(innermost.get(thread_id))])
    return found


def cleans_up_for_another(
    invocation: Invocation, thread_id: int, handled: BaseException | None
) -> bool:
    """Return whether a thread is handling the interrupt of another limit or invocation.

    It counts only if that interrupt has landed since this one began.

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
