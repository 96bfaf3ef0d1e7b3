"""One invocation: what it is to have, when it is due, and who it is the current one for."""

from __future__ import annotations

import math
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.support import FakeClock, plan
from watchdog_lambda._engine import current as _current
from watchdog_lambda._engine import timed as _timed
from watchdog_lambda._engine.current import active, current, remaining_time
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._hooks import HookRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

START, HARD = 1000.0, 1010.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock(START)
    for module in (_timed, _current):
        monkeypatch.setattr(module, "SystemClock", clock)
    return clock


@pytest.fixture(autouse=True)
def nobody_stays_active() -> Iterator[None]:
    yield
    active.clear()


def invocation(*registries: HookRegistry, **settings: object) -> Invocation:
    """Of a function of 10 s, with a grace period of 2 s."""
    made = plan(*registries, **{"grace_period": 2.0, "samples": 0, **settings})
    # Never due: the process's own watchdog may look at the table in any test.
    return Invocation(made, {}, None, START, HARD - START, math.inf)


def test_an_invocation_begins_open_and_without_a_shield() -> None:
    """With what it was called with."""
    made_plan, event, context = plan(), {"a": 1}, object()

    made = Invocation(made_plan, event, context, START, HARD - START, 1008.0)

    assert (made.plan, made.event, made.context) == (made_plan, event, context)
    assert (made.start, made.hard, made.due) == (START, HARD, 1008.0)
    assert (made.is_open, made.firing, made.shields) == (True, None, 0)


# ---- plans -------------------------------------------------------------------------------------


def test_a_plan_is_bare_only_if_it_adds_nothing() -> None:
    """No option, no fallback, no registry but the process's."""
    one, other = HookRegistry(), HookRegistry()

    assert plan(one).is_bare
    assert not plan(one, timeout=3.0).is_bare
    assert not plan(one, fallback=None).is_bare
    assert not plan(one, other).is_bare


def test_an_inner_plan_is_put_into_the_outer_one_once() -> None:
    """Its options, hooks and fallback come first; what it does not give stays the outer one's."""
    process, outer_hooks, inner_hooks = HookRegistry(), HookRegistry(), HookRegistry()
    outer = plan(outer_hooks, process, fallback="outer", grace_period=2.0, timeout=9.0)
    inner = plan(inner_hooks, process, grace_period=1.0)
    with_fallback = plan(process, fallback="inner")

    merged = outer.with_inner(inner)

    assert merged is outer.with_inner(inner), "made once, for it holds for every invocation"
    assert (merged.settings.grace_period, merged.settings.timeout) == (1.0, 9.0)
    assert merged.given == {"grace_period": 1.0, "timeout": 9.0}
    assert merged.registries == (inner_hooks, process, outer_hooks)
    assert merged.fallback == "outer"
    assert outer.with_inner(with_fallback).fallback == "inner"


# ---- times -------------------------------------------------------------------------------------


def test_an_invocations_timeline_is_of_its_plans_settings() -> None:
    """All three of them."""
    timeline = invocation(hook_budget=0.5, last_call=0.25).timeline()

    assert timeline.limit == HARD - START
    assert (timeline.grace_at, timeline.hook_budget) == (8.0, 0.5)
    assert timeline.last_call_at == 9.75


@pytest.mark.parametrize(("befores", "due"), [((), 1008.0), ((1.0,), 1008.0), ((3.0, 5.0), 1005.0)])
def test_it_is_due_at_the_first_stage_or_at_the_grace_period(
    befores: tuple[float, ...], due: float
) -> None:
    """Of all registries; hooks without a stage of their own change nothing."""
    first, second = HookRegistry(), HookRegistry()
    keys = [(first, first.add("plain", print))]
    for registry, before in zip((first, second), befores, strict=False):
        keys.append((registry, registry.add("staged", print, before)))
    made = invocation(first, second)

    made.reschedule()
    for registry, key in keys:
        registry.remove(key)

    assert made.due == due


def test_with_samples_it_is_looked_at_before_it_is_acted_on() -> None:
    """From half of its time on, or at an earlier stage."""
    registry = HookRegistry()
    made = invocation(registry, samples=3)

    made.reschedule()
    plainly = made.due, made.acts_at()
    key = registry.add("staged", print, 6.0)
    made.reschedule()
    registry.remove(key)

    assert plainly == (1005.0, 1008.0)
    assert made.due == 1004.0


def test_what_is_not_due_at_all_is_not_acted_on() -> None:
    """However early the plan would have it."""
    assert invocation(samples=3).acts_at() == math.inf


def test_it_is_out_of_time_from_the_grace_period_on(clock: FakeClock) -> None:
    """By the clock, or because the watchdog has begun it."""
    made = invocation()
    clock.now = 1007.999
    before = made.is_out_of_time(), made.has_fired()
    early = SimpleNamespace(fired_at=None)
    made.firing = early  # type: ignore[assignment]
    after_an_early_stage = made.is_out_of_time(), made.has_fired()
    early.fired_at = 1007.5

    assert before == after_an_early_stage == (False, False)
    assert (made.is_out_of_time(), made.has_fired()) == (True, True)
    made.firing = None
    clock.now = 1008.0
    assert (made.is_out_of_time(), made.has_fired()) == (True, False)


# ---- which one is under way --------------------------------------------------------------------


def test_outside_of_an_invocation_there_is_none(clock: FakeClock) -> None:
    """And no end of time."""
    assert current() is None
    assert remaining_time() == math.inf


def test_a_threads_own_invocation_comes_first(clock: FakeClock) -> None:
    """No matter which others are under way."""
    own, other = invocation(), invocation()
    active.update({get_ident(): own, get_ident() + 1: other})
    clock.now = 1003.5

    assert current() is own
    assert remaining_time() == 6.5


def test_a_thread_without_one_works_for_the_only_one(clock: FakeClock) -> None:
    """For none if there are several."""
    only = invocation()
    active[get_ident() + 1] = only
    of_one = current()
    active[get_ident() + 2] = invocation()

    assert of_one is only
    assert current() is None


@pytest.mark.parametrize("whose", [0, 1])
def test_one_that_has_ended_counts_as_none(whose: int) -> None:
    """It can be left over where a user's signal handler has raised."""
    ended = invocation()
    ended.is_open = False
    active[get_ident() + whose] = ended

    assert current() is None


# ---- when it is looked at ----------------------------------------------------------------------


def test_the_first_look_is_for_a_sample_or_else_for_the_grace_period() -> None:
    """A stage's hooks can be earlier than either."""
    sampled, bare = invocation(samples=20), invocation()
    registry = HookRegistry()
    early = invocation(registry, samples=20)
    key = registry.add("early", print, before=7.0)
    for each in (sampled, bare, early):
        each.reschedule()
    registry.remove(key)

    assert (sampled.due, bare.due, early.due) == (START + 5.0, HARD - 2.0, HARD - 7.0)


def test_the_time_that_has_passed_is_that_of_the_clock(clock: FakeClock) -> None:
    """Since the start."""
    made = invocation()
    clock.advance(2.5)

    assert made.elapsed() == 2.5


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (8.04, "interrupted after 8.0 s, 2.0 s before the 10.0 s limit, in app.py:1 (f)"),
        (10.0, "interrupted after 10.0 s, 0.0 s before the 10.0 s limit, in app.py:1 (f)"),
        (11.5, "interrupted after 11.5 s, 1.5 s after the 10.0 s limit, in app.py:1 (f)"),
    ],
)
def test_the_message_says_how_long_and_how_near(after: float, words: str) -> None:
    """The two figures add up to the limit."""
    assert invocation().message(after, "app.py:1 (f)") == words
