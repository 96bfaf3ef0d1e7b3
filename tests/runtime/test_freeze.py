"""A freeze between two invocations leaks nothing from the old one into the new one.

Lambda freezes the sandbox once the runtime has asked for the next event; SIGSTOP stands for that
here. The monotonic clock continues meanwhile; ``tests/threads/test_watchdog_thread.py`` covers the
case in which it stands still.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from .harness import WAYS, Call, Way, call, running, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.emulator import Emulator

TIMEOUT: Final = 2
FIRES_AT: Final = TIMEOUT * 3 / 4
SLACK: Final = 0.25
HANG: Final = {"hang": 60}


@pytest.fixture(params=WAYS)
def function(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """Start a function that has had one invocation already, so that its watchdog is running."""
    way: Way = request.param
    with running(
        wrapped("frozen.handler", way=way, timeout=TIMEOUT, warm_up={"watch": 0})
    ) as emulator:
        yield emulator
        # All timers expire at once at the thaw; faulthandler's must not write a dump.
        assert not [line for line in emulator.lines if line.text.startswith("Current thread")]


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop every thread of the runtime for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while state(pid) != "T":
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def state(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0]


def freeze(after: Call, seconds: float) -> None:
    """Freeze the function from the end of this invocation on."""
    with frozen(after.answer["pid"]):
        time.sleep(seconds)


def assert_untouched(watched: Call) -> None:
    """Check that no signal reached the handler, no record was written, and it ended by itself."""
    assert watched.answer["signals"] == []
    assert watched.reports == []


def assert_deadline_holds(function: Emulator) -> None:
    """Check that a handler that hangs is interrupted at its own grace period."""
    hanging = call(function, HANG)
    assert hanging.answer["errorType"] == "LambdaTimeout"
    assert FIRES_AT - 0.05 < hanging.response.seconds < FIRES_AT + SLACK
    [report] = hanging.reports
    assert report["request_id"] == hanging.request_id
    assert report["elapsed_ms"] == pytest.approx(FIRES_AT * 1000, abs=SLACK * 1000)


def test_deadline_passed_during_freeze_does_not_fire(function: Emulator) -> None:
    """A deadline that passed in the freeze fires nothing.

    The watchdog wakes at the thaw, after its invocation has ended.
    """
    freeze(call(function, {}), TIMEOUT + 0.5)
    assert_untouched(call(function, {"watch": 1.0}))

    freeze(call(function, {}), TIMEOUT + 0.5)
    assert_deadline_holds(function)


def test_old_deadline_does_not_fire_during_next_invocation(
    function: Emulator,
) -> None:
    """The old invocation's deadline fires nothing if it passes during the next one.

    The watchdog still sleeps until then after the thaw.
    """
    freeze(call(function, {}), FIRES_AT - 0.6)
    assert_untouched(call(function, {"watch": 1.2}))

    freeze(call(function, {}), FIRES_AT - 0.6)
    assert_deadline_holds(function)


def test_answered_timeout_before_freeze_is_not_repeated(function: Emulator) -> None:
    """A timeout that was answered just before the freeze has no second record or interrupt.

    Its hard deadline and last call pass in the freeze.
    """
    pid = call(function, {}).answer["pid"]
    assert_deadline_holds(function)
    with frozen(pid):
        time.sleep(1.0)
    assert_untouched(call(function, {"watch": 1.0}))

    assert_deadline_holds(function)
    with frozen(pid):
        time.sleep(1.0)
    assert_deadline_holds(function)


def test_hook_hanging_through_freeze_does_not_affect_next_invocation(function: Emulator) -> None:
    """A hook that hangs in the freeze goes on after the thaw.

    It ends during the next invocation, without any effect on that.
    """
    pid = call(function, {}).answer["pid"]
    hanging = call(function, {"hang": 60, "hook": FIRES_AT + 1.5})
    with frozen(pid):
        time.sleep(1.0)
    next_one = call(function, {"watch": 1.2})

    assert hanging.answer["errorType"] == "LambdaTimeout"
    assert hanging.response.seconds < TIMEOUT
    [report] = hanging.reports
    assert [hook["outcome"] for hook in report["hooks"]] == ["timed-out"]
    assert_untouched(next_one)
    assert next_one.answer["hook_ends"] == [hanging.request_id]
    assert_deadline_holds(function)
