"""The timeline of an invocation is in order, whatever the time and the settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog_lambda._clock import SystemAlarm, Timeline

seconds = st.floats(min_value=0.001, max_value=900.0)
settings = st.floats(min_value=0.001, max_value=86_400.0)


@given(seconds, settings, settings)
def test_instants_are_in_order(remaining: float, grace_period: float, last_call: float) -> None:
    """Start, grace, last call and hard deadline never change places, from 1 ms to 15 minutes."""
    line = Timeline(
        100.0,
        100.0 + remaining,
        grace_period=grace_period,
        hook_budget=None,
        last_call=last_call,
    )

    assert line.start < line.grace_at < line.last_call_at < line.hard
    assert line.grace_at + line.hook_budget < line.hard
    assert line.grace_period <= remaining * 0.2501


@given(seconds, settings)
def test_no_stage_begins_in_the_first_quarter(remaining: float, before: float) -> None:
    """However early a stage asks to be, the handler has a quarter of its time undisturbed."""
    line = Timeline(0.0, remaining, grace_period=3.0, hook_budget=None, last_call=0.5)

    assert remaining * 0.2499 <= line.stage_at(before) < remaining


def test_one_second_is_still_protected() -> None:
    """The default grace period of 3 s becomes 0.25 s for a function of 1 s."""
    line = Timeline(0.0, 1.0, grace_period=3.0, hook_budget=None, last_call=0.5)

    assert (line.grace_at, line.last_call_at) == (0.75, 0.9375)


def test_hooks_keep_their_share_of_a_grace_period_that_shrinks() -> None:
    """1 s of 3 s for the hooks is a third of whatever grace period is in force."""
    line = Timeline(0.0, 1.2, grace_period=3.0, hook_budget=1.0, last_call=0.5)

    assert abs(line.hook_budget - 0.1) < 1e-9


@pytest.mark.parametrize(
    ("budget", "in_force"),
    [(0.2, 0.2), (0.25, 0.25), (0.5, 0.25), (1.5, 0.375), (2.4, 0.525)],
)
def test_a_hook_budget_that_still_fits_is_kept(budget: float, in_force: float) -> None:
    """A function of 3 s has a grace period of 0.75 s instead of 3 s: 0.2 s are 0.2 s there."""
    line = Timeline(0.0, 3.0, grace_period=3.0, hook_budget=budget, last_call=0.5)

    assert line.hook_budget == pytest.approx(in_force)
    assert line.grace_at + line.hook_budget < line.last_call_at


def test_alarm_rung_before_the_wait_is_not_lost() -> None:
    """A ring that comes first ends the wait at once, and ringing twice is no error."""
    alarm = SystemAlarm(longest=5.0)

    alarm.ring()
    alarm.ring()

    alarm.wait(5.0)  # would run into the test's own timeout if the ring were lost
