"""When a supervisor acts, in numbers. Pure functions, seconds throughout."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MARGIN: Final = 0.25
"""So long before the hard deadline it answers for a handler that is stuck.

At 7 % of a processor, as a function of 128 MB has it, the two processes wait for up to two periods
of 100 ms before they get to run; see docs/explanation/supervisor.md for what was measured."""

MARGIN_SHARE: Final = 0.125
"""And never more than this share of the time that the invocation has: the grace period is twice as
long, so an interrupt still comes first."""

OVERDUE_BY: Final = 1.0
"""So long after the hard deadline the platform has ended the process, or was frozen with it.

Then the runtime has as long again to come back by itself; where nobody ends the process (Managed
Instances), the supervisor answers after that."""

LONGEST_SLEEP: Final = 900.0
_SHORTEST_SLEEP: Final = 0.05

STACK_SHARE: Final = 0.25
"""A stuck main thread has this share of the time that is left to write down where it is."""


def margin(seconds: float) -> float:
    """How long before the hard deadline of an invocation that has so many seconds in all."""
    return min(MARGIN, seconds * MARGIN_SHARE)


def sleep(seconds: float) -> float:
    """How long to sleep where the last invocation had so many seconds in all; 0.0 for none yet.

    All have as many. So one that begins during the sleep does not come to its margin before that is
    over. The first one of each process rings: it may have been handed out before its process's init
    was over, or there may have been no other.
    """
    if not seconds:
        return LONGEST_SLEEP
    return min(max(seconds - margin(seconds), _SHORTEST_SLEEP), LONGEST_SLEEP)
