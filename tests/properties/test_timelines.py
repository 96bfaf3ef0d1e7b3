"""The instants are in order and never negative, for every time and every valid setting."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from watchdog_lambda import ConfigurationError
from watchdog_lambda._config import GRACE_SHARE, LAST_CALL_SHARE, Settings
from watchdog_lambda._engine.clock import Timeline
from watchdog_lambda._engine.escalation import GIVE_UP_SHARES
from watchdog_lambda._setting import LONGEST_GRACE_PERIOD

remaining = st.integers(1, 900_000).map(lambda milliseconds: milliseconds * 0.001)
"""The remaining time, from 1 ms to 15 minutes."""

RESOLUTION = 1e-8
"""The resolution in seconds of a float that long after the start, after some additions."""

ordinary = st.floats(0.001, LONGEST_GRACE_PERIOD)
"""A span that a user might set, in seconds."""

any_span = st.floats(0.0, LONGEST_GRACE_PERIOD, exclude_min=True, allow_subnormal=True)
"""Any span that a setting accepts, down to the smallest float."""


def settings(grace_period: float, hook_budget: float | None, last_call: float) -> Settings | None:
    """Return the settings that the environment gives, or None if it is refused."""
    try:
        return Settings.from_environ(
            {}, grace_period=grace_period, hook_budget=hook_budget, last_call=last_call
        )
    except ConfigurationError:
        return None


def timeline(chosen: Settings, seconds: float) -> Timeline:
    return Timeline(
        seconds,
        grace_period=chosen.grace_period,
        hook_budget=chosen.hook_budget,
        last_call=chosen.last_call,
    )


@given(remaining, any_span, st.none() | any_span, any_span)
@example(0.001, 5e-324, None, 5e-324)
@example(0.001, 225.0, 56.25, 5e-324)
def test_instants_are_in_order_for_all_settings(
    seconds: float, grace: float, budget: float | None, last_call: float
) -> None:
    """No instant is before the one that precedes it, and no span is negative, for all settings."""
    chosen = settings(grace, budget, last_call)
    if chosen is None:
        return

    line = timeline(chosen, seconds)

    instants = (
        0.0,
        line.grace_at,
        line.overdue_at,
        line.last_call_at,
        line.dump_at,
        line.limit,
    )
    assert list(instants) == sorted(instants)
    assert line.grace_period >= 0
    assert line.hook_budget >= 0
    assert all(math.isfinite(instant) for instant in instants)


@given(remaining, ordinary, st.none() | ordinary, ordinary)
def test_instants_are_distinct_for_usual_settings(
    seconds: float, grace: float, budget: float | None, last_call: float
) -> None:
    """For usual settings all instants differ, and are in order.

    They are start, grace, overdue, last call, dump and hard deadline.
    """
    chosen = settings(grace, budget, last_call)
    if chosen is None:
        return

    line = timeline(chosen, seconds)

    assert 0.0 < line.grace_at < line.overdue_at < line.last_call_at
    assert line.last_call_at < line.dump_at < line.limit


@given(remaining, ordinary, ordinary, ordinary)
@example(3.0, 3.0, 2.4, 0.5)
def test_full_hook_budget_leaves_time_to_unwind(
    seconds: float, grace: float, budget: float, last_call: float
) -> None:
    """Hooks that take their whole budget leave time to unwind.

    This holds if the grace period was shortened, and last call takes a larger share of it.
    """
    chosen = settings(grace, budget, last_call)
    if chosen is None:
        return

    line = timeline(chosen, seconds)

    assert line.grace_at + line.hook_budget <= line.last_call_at + RESOLUTION
    assert line.hook_budget <= budget * (1 + 1e-12)


@given(remaining, ordinary, ordinary)
def test_promised_shares_are_never_exceeded(seconds: float, grace: float, last_call: float) -> None:
    """The promised shares are never exceeded.

    The grace period has at most a quarter of the time, and last call at most a quarter of that.
    """
    chosen = settings(grace, None, last_call)
    assert chosen is not None

    line = timeline(chosen, seconds)

    assert line.limit - line.grace_at <= min(grace, seconds * GRACE_SHARE) + RESOLUTION
    longest = min(last_call, line.grace_period * LAST_CALL_SHARE)
    assert line.limit - line.last_call_at <= longest + RESOLUTION
    assert line.hook_budget <= line.grace_period / 3 + RESOLUTION


@given(remaining, ordinary, ordinary, st.floats(0.0, 1e308, exclude_min=True))
def test_stage_is_between_first_quarter_and_hard_deadline(
    seconds: float, grace: float, last_call: float, before: float
) -> None:
    """A stage lies between the first quarter and the hard deadline, whatever time it asks for."""
    chosen = settings(grace, None, last_call)
    assert chosen is not None
    line = timeline(chosen, seconds)

    assert seconds * 0.25 - RESOLUTION <= line.stage_at(before) <= line.limit


@given(remaining, ordinary, ordinary, st.floats(0.001, 900.0), st.floats(0.001, 900.0))
def test_larger_before_gives_no_later_stage(
    seconds: float, grace: float, last_call: float, one: float, other: float
) -> None:
    """A stage with a larger `before` is no later, so stages keep the order that was asked for."""
    chosen = settings(grace, None, last_call)
    assert chosen is not None
    line = timeline(chosen, seconds)

    assert line.stage_at(max(one, other)) <= line.stage_at(min(one, other))


@given(remaining, ordinary, ordinary, st.sampled_from(sorted(GIVE_UP_SHARES)))
def test_stuck_handler_is_given_up_between_last_call_and_dump(
    seconds: float, grace: float, last_call: float, action: str
) -> None:
    """A stuck handler is given up between last call and the dump of its stacks.

    So no dump is made for a watchdog that has reported.
    """
    chosen = settings(grace, None, last_call)
    assert chosen is not None
    line = timeline(chosen, seconds)

    stuck_at = line.last_call_at + GIVE_UP_SHARES[action] * (line.limit - line.last_call_at)

    assert line.last_call_at <= stuck_at <= line.dump_at


@given(remaining, ordinary, st.none() | ordinary, ordinary, remaining)
def test_more_time_never_shrinks_any_share(
    seconds: float,
    grace: float,
    budget: float | None,
    last_call: float,
    more: float,
) -> None:
    """With more time neither the grace period nor the hooks' time nor last call gets smaller."""
    chosen = settings(grace, budget, last_call)
    if chosen is None:
        return

    short, long = timeline(chosen, seconds), timeline(chosen, seconds + more)

    assert short.grace_period <= long.grace_period + RESOLUTION
    assert short.hook_budget <= long.hook_budget + RESOLUTION
    assert short.limit - short.last_call_at <= long.limit - long.last_call_at + RESOLUTION
