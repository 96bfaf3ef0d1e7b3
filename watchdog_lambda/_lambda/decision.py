"""Computes when a supervisor acts. Pure functions; all times are in seconds."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MARGIN: Final = 0.25
"""How long before the hard deadline the supervisor answers for a stuck handler.

At 7 % of a processor, the share of a function of 128 MB, the two processes wait for up to two
periods of 100 ms before they run; docs/explanation/supervisor.md has the measurements."""

MARGIN_SHARE: Final = 0.125
"""The margin is never more than this share of the invocation's time: the grace period is twice as
long, so an interrupt still comes first."""

OVERDUE_BY: Final = 1.0
"""By this long after the hard deadline the platform has killed the process, or everything was
frozen.

Then the runtime has as long again to answer by itself. If the process is not killed (Managed
Instances), the supervisor answers after that."""

GRACE_SHARE: Final = 0.5
"""Nor is it more than this share of a grace period that the user has chosen shorter: hooks and the
interrupt come first."""

LONGEST_SLEEP: Final = 900.0
_SHORTEST_SLEEP: Final = 0.05

STACK_SHARE: Final = 0.25
"""A stuck main thread has this share of the time that is left to write its stack."""


def margin(seconds: float, grace_period: float = math.inf) -> float:
    """Return the margin before the hard deadline, for an invocation of `seconds` in all.

    `grace_period` is the setting.
    """
    return min(MARGIN, seconds * MARGIN_SHARE, grace_period * GRACE_SHARE)


def sleep(seconds: float) -> float:
    """Return how long to sleep if the last invocation had `seconds` in all; 0.0 for none yet.

    All invocations have the same time. So one that begins during the sleep does not reach its
    margin before the sleep is over. The first invocation of each process rings: it may have begun
    before its process's init was over, or there may have been none before.
    """
    if not seconds:
        return LONGEST_SLEEP
    return min(max(seconds - margin(seconds), _SHORTEST_SLEEP), LONGEST_SLEEP)
