"""C code that holds the GIL but looks at signals: the kernel's timer reaches it."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND, Context, eventually, landed_outside
from tests.threads.gates import LONG, let_time_pass
from watchdog_lambda import LambdaTimeout, Watchdog, watch
from watchdog_lambda._cpython.timers import ThreadTimer
from watchdog_lambda._engine.current import active
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable


def expression() -> None:
    re.match(r"(a+)+$", "a" * 40 + "b")


def power() -> None:
    3**50_000_000


def serialise() -> None:
    json.dumps([list(range(1000))] * 1_000_000)


@pytest.mark.parametrize("work", [expression, power, serialise], ids=lambda f: f.__name__)
def test_code_holding_the_gil_is_interrupted_after_hooks(
    work: Callable[[], None],
) -> None:
    """A nudge of the kernel's timer interrupts code that holds the GIL, after the hooks.

    No Python thread can run until the nudge's handler, which the code calls, lets them.
    """
    seen: list[float] = []
    watchdog = Watchdog(grace_period=0.3)
    watchdog.shutdown_hook(lambda details: seen.append(details.remaining()))
    context = Context(1.2)

    with pytest.raises(LambdaTimeout):
        watchdog.watch(lambda _e, _c: work())({}, context)

    left = context.get_remaining_time_in_millis() / 1000
    assert 0.1 < left < 0.3
    assert seen
    assert left <= seen[0], "the hook did not run first"


def test_hook_ends_blocked_call_despite_late_watchdog() -> None:
    """A hook can end the call that blocks the handler, although the timer has nudged.

    The timer also nudges if the watchdog is late because it has waited for a processor. Then the
    nudge must not hold the handler until the hooks have ended.
    """
    waits, ends, ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []
    watchdog = Watchdog(grace_period=LONG / 4)

    @watchdog.shutdown_hook
    def ends_the_call(_details: object) -> None:
        assert waits.wait(BOUND)
        nudge = process_watchdog.nudge
        before = nudge.heard

        def hears() -> bool:
            nudge.send()  # again and again: one that comes just before the call blocks is lost
            return nudge.heard > before

        eventually(hears, "the handler's thread to hear the nudge")
        ends.set()
        seen.append(ended.wait(BOUND))

    @watchdog.watch
    def handler(_event: object, _context: object) -> str:
        let_time_pass(active[threading.get_ident()], LONG * 3 / 4)
        waits.set()
        assert ends.wait(BOUND)
        ended.set()
        return "done"

    assert handler({}, Context(LONG)) == "done"
    assert seen == [True]


FIRST = """
import re
from tests.support import Context
from watchdog_lambda import watch

try:
    watch(lambda _e, _c: re.match(r"(a+)+$", "a" * 40 + "b"))({}, Context(0.8))
except TimeoutError:
    print("interrupted")
"""


def test_first_invocation_holding_the_gil_at_once_is_interrupted() -> None:
    """The first invocation is interrupted even if it holds the GIL from its first instruction.

    The watchdog's thread has not run yet, so the handler's thread sets the timer.
    """
    done = subprocess.run(
        [sys.executable, "-c", FIRST], capture_output=True, text=True, check=True, timeout=BOUND
    )

    assert "interrupted" in done.stdout


def test_timer_does_not_ring_after_the_invocation() -> None:
    """After the invocation the timer does not ring any more."""
    with pytest.raises(LambdaTimeout):
        watch(grace_period=0.05)(lambda _e, _c: expression())({}, Context(0.4))

    assert landed_outside(0.1) == []


def test_timer_rings_when_set_and_not_when_stopped() -> None:
    """The kernel's timer rings once it is set, and does not once it is stopped."""
    number = signal.SIGRTMIN + 5
    rings: list[int] = []
    before = signal.signal(number, lambda s, _f: rings.append(s))
    timer = ThreadTimer(number, threading.get_native_id())
    try:
        if not timer.available:
            pytest.skip("timer_create is not available here")
        timer.set(0.001, 0.001)
        threading.Event().wait(0.05)
        timer.stop()
        counted = len(rings)
        threading.Event().wait(0.02)

        assert counted > 5
        assert len(rings) == counted
        timer.set(math.inf, 1.0)
        assert not timer.is_set
    finally:
        timer.stop()
        signal.signal(number, before)
