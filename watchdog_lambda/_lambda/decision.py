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

_EARLY_FACTOR: Final = 1.5
_EARLY_SPARE: Final = 0.25


STACK_SHARE: Final = 0.25
"""A stuck main thread has this share of the time that is left to write down where it is."""


def margin(seconds: float) -> float:
    """How long before the hard deadline of an invocation that has so many seconds in all."""
    return min(MARGIN, seconds * MARGIN_SHARE)


def wants_early(left: float, init_seconds: float) -> bool:
    """Whether the next event is asked for at once, and not when the fresh process is ready.

    Late is better for whoever is served next, as the init is over by then; but the init has to fit
    into the time that is `left` to the hard deadline, with room to spare.
    """
    return left < _EARLY_FACTOR * init_seconds + _EARLY_SPARE
