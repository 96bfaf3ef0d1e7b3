"""The invocation under way, asked for by user code in any thread."""

from __future__ import annotations

import math
from _thread import get_ident

from .clock import SystemClock
from .invocation import active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .invocation import Invocation

__all__ = ["remaining_time"]


def current() -> Invocation | None:
    """The invocation that this thread works for: its own, or else the only one under way."""
    invocation = active.get(get_ident())
    if invocation is None and len(active) == 1:
        # A worker thread of the handler, or a hook.
        invocation = next(iter(list(active.values())), None)
    return invocation if invocation is not None and invocation.is_open else None


def remaining_time() -> float:
    """Seconds to the hard deadline of the invocation under way; ``math.inf`` outside of one.

    Negative once the deadline has passed (Managed Instances do not enforce it). In a thread that
    the handler started it is the process's invocation, as long as there is just one.

    Thread: any.
    """
    invocation = current()
    return math.inf if invocation is None else invocation.hard - SystemClock.monotonic()
