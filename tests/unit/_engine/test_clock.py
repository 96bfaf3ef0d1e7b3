"""The timeline of an invocation, and the clock, alarm and stopwatch that it is measured with."""

from __future__ import annotations

import os
import time
from _thread import TIMEOUT_MAX

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import FakeClock
from watchdog_lambda._config import budget_within
from watchdog_lambda._engine import clock
from watchdog_lambda._engine.clock import Stopwatch, SystemAlarm, SystemClock, Timeline

seconds = st.floats(min_value=0.001, max_value=900.0)
settings = st.floats(min_value=0.001, max_value=86_400.0)


@given(seconds, settings, settings)
def test_instants_are_in_order(remaining: float, grace_period: float, last_call: float) -> None:
    """Start, grace, last call and hard deadline keep their order, from 1 ms to 15 minutes."""
    line = Timeline(
        remaining,
        grace_period=grace_period,
        hook_budget=None,
        last_call=last_call,
    )

    assert 0.0 < line.grace_at < line.overdue_at < line.last_call_at
    assert line.last_call_at < line.dump_at < line.limit
    assert line.grace_at + line.hook_budget < line.limit
    assert line.grace_period <= remaining * 0.2501


@given(seconds, settings)
def test_no_stage_begins_in_the_first_quarter(remaining: float, before: float) -> None:
    """However early a stage is to begin, it begins after the first quarter of the time."""
    line = Timeline(remaining, grace_period=3.0, hook_budget=None, last_call=0.5)

    assert remaining * 0.2499 <= line.stage_at(before) < remaining


def test_one_second_timeout_is_protected() -> None:
    """The default grace period of 3 s becomes 0.25 s for a function of 1 s."""
    line = Timeline(1.0, grace_period=3.0, hook_budget=None, last_call=0.5)

    assert (line.grace_at, line.last_call_at, line.limit) == (0.75, 0.9375, 1.0)
    assert (line.overdue_at, line.dump_at) == (0.84375, 0.984375)
    assert line.hook_budget == pytest.approx(0.25 / 3)


@pytest.mark.parametrize(("before", "at"), [(0.25, 0.75), (0.75, 0.25), (2.0, 0.25)])
def test_stage_begins_on_request_or_after_first_quarter(before: float, at: float) -> None:
    """In a function of 1 s a stage begins at the time it asks for, or after the first quarter."""
    line = Timeline(1.0, grace_period=3.0, hook_budget=None, last_call=0.5)

    assert line.stage_at(before) == at


def test_hook_budget_scales_with_shortened_grace_period() -> None:
    """A hook budget of 1 s in 3 s remains a third when the grace period is shortened."""
    line = Timeline(1.2, grace_period=3.0, hook_budget=1.0, last_call=0.5)

    assert abs(line.hook_budget - 0.1) < 1e-9


@pytest.mark.parametrize(
    ("budget", "in_force"),
    [(0.2, 0.2), (0.25, 0.25), (0.5, 0.25), (1.5, 0.375), (2.4, 0.525)],
)
def test_fitting_hook_budget_is_kept(budget: float, in_force: float) -> None:
    """A budget of 0.2 s stays 0.2 s in a function of 3 s, whose grace period is 0.75 s."""
    line = Timeline(3.0, grace_period=3.0, hook_budget=budget, last_call=0.5)

    assert line.hook_budget == pytest.approx(in_force)
    assert line.grace_at + line.hook_budget < line.last_call_at


@pytest.mark.parametrize("grace_period", [3.0, 4.0])
def test_hook_budget_is_kept_with_full_grace_period(grace_period: float) -> None:
    """A grace period that is not shortened keeps its hook budget, even above the usual share."""
    assert budget_within(grace_period, 2.4, chosen_for=3.0) == 2.4


def test_alarm_wait_returns_whether_time_has_passed() -> None:
    """``wait()`` tells whether the time has passed: sampling stops when the alarm is rung."""
    alarm = SystemAlarm(longest=5.0)
    alarm.ring()

    assert alarm.wait(5.0) is False, "rung"
    assert alarm.wait(0.0) is True


def test_alarm_rung_before_the_wait_is_not_lost() -> None:
    """A ring that comes first ends the wait at once, and ringing twice is no error."""
    alarm = SystemAlarm(longest=5.0)

    alarm.ring()
    alarm.ring()

    began = time.monotonic()
    assert alarm.wait(5.0) is False, "rung"
    assert time.monotonic() < began + 2.5


class FakeLock:
    """Stands in for a lock: it never blocks, and records how it was acquired."""

    def __init__(self) -> None:
        self.is_taken = False
        self.waits: list[tuple[bool, float]] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002
        self.waits.append((blocking, timeout))
        self.is_taken = True
        return True

    def release(self) -> None:
        self.is_taken = False


def test_alarm_wait_is_bounded_by_request_and_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wait is bounded by the lock's maximum, and an instant in the past is not waited for.

    A negative timeout would mean forever.
    """
    lock = FakeLock()
    monkeypatch.setattr(clock, "allocate_lock", lambda: lock)
    alarm = SystemAlarm(longest=5.0)
    assert lock.is_taken, "the lock is free before the first wait"
    lock.waits.clear()

    for seconds in (2.0, 7.0, 0.0, -3.0):
        alarm.wait(seconds)

    assert lock.waits == [(True, 2.0), (True, 5.0), (True, 0.0), (True, 0.0)]
    alarm.ring()
    assert not lock.is_taken, "ring() did not release the lock"


@pytest.mark.parametrize(
    ("libc", "longest"),
    [
        ("glibc 1.99", 1.0),
        ("glibc 2.26", 1.0),
        ("glibc 2.29", 1.0),
        ("glibc 2.29.9000-dev", 1.0),
        ("glibc 2.30", TIMEOUT_MAX),
        ("glibc 2.40", TIMEOUT_MAX),
        ("glibc 3.0", TIMEOUT_MAX),
        ("glibc", TIMEOUT_MAX),
        ("glibc unstable", TIMEOUT_MAX),
        ("", TIMEOUT_MAX),
        (None, TIMEOUT_MAX),
        (ValueError("unrecognized configuration name"), TIMEOUT_MAX),
        (OSError(22, "Invalid argument"), TIMEOUT_MAX),
    ],
)
def test_wait_is_split_into_seconds_on_old_glibc(
    libc: str | Exception | None, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before glibc 2.30 a wait is cut into seconds; another or an unknown C library is trusted."""

    def confstr(_name: str) -> str | None:
        if isinstance(libc, Exception):
            raise libc
        return libc

    monkeypatch.setattr(os, "confstr", confstr)

    assert SystemClock().make_alarm()._longest == longest


def test_epoch_ms_is_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """``epoch_ms()`` is rounded down to milliseconds, as Lambda's deadline is."""
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.9879)

    assert SystemClock().epoch_ms() == 1_700_000_000_987


def test_since_boot_reads_clock_boottime(monkeypatch: pytest.MonkeyPatch) -> None:
    """``since_boot()`` reads the clock that also counts the time in which the machine sleeps."""
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 12.5}.get)

    assert SystemClock().since_boot() == 12.5


def test_stopwatch_counts_from_the_given_start() -> None:
    """``elapsed()`` counts from the start that was given, not from the stopwatch's creation."""
    assert Stopwatch(FakeClock(1000.0), 997.5).elapsed() == 2.5


def test_waiting_cleanup_gets_half_of_the_time_to_last_call() -> None:
    """A cleanup that only waits has half of the time from its interrupt to last call."""
    line = Timeline(8.0, grace_period=2.0, hook_budget=None, last_call=0.5)

    assert line.wait_ends(6.5) == 7.0
