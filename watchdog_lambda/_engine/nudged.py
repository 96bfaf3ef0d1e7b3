"""Decides what a nudge's signal handler raises in the main thread, in the middle of anything."""

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

    from watchdog_lambda._cpython.pace import Pace

    from .clock import Clock
    from .invocation import Firing, Invocation
    from .kernel_timers import KernelTimers

_YIELD = 0.001

_LONGEST_LATE = 0.02
"""Seconds after the hooks' budget that the watchdog may take to catch up."""

_TURN = 0.01
"""Seconds that a thread which does not compute is held at a time while hooks run."""

_COMPUTES = 0.001
"""Seconds of CPU time between two nudges from which on a thread counts as computing."""


def decide(
    frame: FrameType | None,
    clock: Clock,
    ring: Callable[[], None],
    pace: Pace,
    kernel_timers: KernelTimers,
) -> BaseException | None:
    """Return the interrupt to raise in `frame`; None if nothing is due there.

    If the watchdog is late, `ring` it and wait until it has caught up.

    Thread: main.
    """
    if frame is None or is_ours(frame.f_code):
        return None
    hooks_run = False
    for invocation in of_thread(get_ident()):
        if not invocation.is_open:
            continue
        if not has_caught_up(invocation, clock):
            _let_the_thread_run(invocation, clock, ring, pace)
        firing = invocation.firing
        if firing is None:
            continue
        if _do_hooks_run(firing):
            hooks_run = True
            continue
        error = land(firing, frame)
        if error is not None:
            return error
        if firing.policy.is_on_its_way:
            # C code that holds the GIL would keep the watchdog from nudging again.
            kernel_timers.set(clock.monotonic() + PUT_OFF_PERIOD - LATE_BY)
            return None
    if hooks_run:
        kernel_timers.put_off(clock.monotonic())  # to see whether this thread computes until then
    else:
        _put_off(clock, kernel_timers)
    return None


def _put_off(clock: Clock, kernel_timers: KernelTimers) -> None:
    """Put the kernel's nudge off to when it may be due, if it is not due now."""
    # A watchdog without a processor does not stop the timer, which would nudge invocations that are
    # not due every 2 ms.
    acts_at = min((i.acts_at() for _, i in watched() if i.is_open), default=math.inf)
    if acts_at > clock.monotonic():
        kernel_timers.put_off(acts_at)


def has_caught_up(invocation: Invocation, clock: Clock) -> bool:
    """Return whether the watchdog has done what is due before an interrupt. Thread: any."""
    firing = invocation.firing
    if firing is None:
        return clock.monotonic() < invocation.acts_at() + LATE_BY / 2
    if _do_hooks_run(firing):
        return False
    return firing.elapsed() < firing.timeline.grace_at or not firing.policy.is_waiting


def _do_hooks_run(firing: Firing) -> bool:
    return any(not stage.is_over() for stage in firing.stages)


def _let_the_thread_run(
    invocation: Invocation, clock: Clock, ring: Callable[[], None], pace: Pace
) -> None:
    """Release the GIL until the watchdog has done what is due before the interrupt.

    The kernel timer has nudged because the watchdog is late: C code holds the GIL, and this
    function, called from inside it, can release it. In this time hooks run, within their budget.

    But the watchdog may be late because it has waited for a processor. The thread may then be
    blocked in a call that a hook ends, so it is held for a turn only, unless it has computed since
    the last one. Pinned by test_hook_ends_blocked_call_despite_late_watchdog.
    """
    until = clock.monotonic() + invocation.timeline().hook_budget + _LONGEST_LATE
    firing = invocation.firing
    computes = firing is not None and clock.thread_time() - firing.cpu_time > _COMPUTES
    while (now := clock.monotonic()) < until and not has_caught_up(invocation, clock):
        firing = invocation.firing
        if not computes and firing is not None and _do_hooks_run(firing):
            until = min(until, now + _TURN)
        # The other threads' turns come before the watchdog's. Ring last: then it restores the pace
        # even if it has looked in between.
        pace.quicken()
        ring()
        clock.pause(_YIELD)
    firing = invocation.firing
    if firing is not None:
        # If the watchdog has seen a blocked thread, it was this one, waiting in here.
        firing.looks_blocked = False
        firing.cpu_time = clock.thread_time()
