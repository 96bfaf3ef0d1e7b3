"""What a nudge's handler raises in the main thread, in the middle of whatever runs there."""

from __future__ import annotations

import math
from _thread import get_ident

from watchdog_lambda._cpython.source import is_ours

from .kernel_timers import LATE_BY
from .landing import land
from .limits import of_thread, watched
from .press import PUT_OFF_PERIOD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from .clock import Clock
    from .invocation import Invocation
    from .kernel_timers import KernelTimers

_YIELD = 0.001

_LONGEST_LATE = 0.02
"""Seconds beyond the hooks' budget that the watchdog may take to catch up."""


def decide(
    frame: FrameType | None, clock: Clock, ring: Callable[[], None], kernel_timers: KernelTimers
) -> BaseException | None:
    """The interrupt to raise in `frame`; None: nothing is due there.

    Where the watchdog is late, `ring` it and wait until it has caught up.

    Thread: main.
    """
    if frame is None or is_ours(frame.f_code):
        return None
    for invocation in of_thread(get_ident()):
        if not invocation.is_open:
            continue
        if not has_caught_up(invocation, clock):
            _let_the_thread_run(invocation, clock, ring)
            if invocation.firing is not None:
                # If the watchdog has seen anybody sleep meanwhile, it was this thread, in here.
                invocation.firing.looks_blocked = False
        firing = invocation.firing
        if firing is None:
            continue
        error = land(firing, frame)
        if error is not None:
            return error
        if firing.policy.is_on_its_way:
            # C code that holds the GIL would keep the watchdog from nudging again.
            kernel_timers.set(clock.monotonic() + PUT_OFF_PERIOD - LATE_BY)
            return None
    # A thread that has no processor does not take the timer back, and it would ring every 2 ms in
    # who is not due.
    acts_at = min((i.acts_at() for _, i in watched() if i.is_open), default=math.inf)
    if acts_at > clock.monotonic():
        kernel_timers.put_off(acts_at)
    return None


def has_caught_up(invocation: Invocation, clock: Clock) -> bool:
    """Whether the watchdog has done what is due before an interrupt may land. Thread: any."""
    firing = invocation.firing
    if firing is None:
        return clock.monotonic() < invocation.acts_at() + LATE_BY / 2
    if any(not stage.is_over() for stage in firing.stages):
        return False
    return firing.elapsed() < firing.timeline.grace_at or not firing.policy.is_waiting


def _let_the_thread_run(invocation: Invocation, clock: Clock, ring: Callable[[], None]) -> None:
    """Give the GIL away until the watchdog has done what is due before the interrupt.

    The kernel's timer has nudged because the thread is late: C code holds the GIL, and it is this
    function, called from inside of it, that can let go. Hooks run meanwhile, within their budget.
    """
    until = clock.monotonic() + invocation.timeline().hook_budget + _LONGEST_LATE
    while clock.monotonic() < until and not has_caught_up(invocation, clock):
        ring()
        clock.pause(_YIELD)
