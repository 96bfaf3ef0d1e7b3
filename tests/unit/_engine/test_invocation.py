"""One invocation: its plan, its times, and which invocation is current in a thread."""

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
def no_invocation_stays_active() -> Iterator[None]:
    yield
    active.clear()


def invocation(*registries: HookRegistry, **settings: object) -> Invocation:
    """Return an invocation of a function of 10 s, with a grace period of 2 s."""
    made = plan(*registries, **{"grace_period": 2.0, "samples": 0, **settings})
    # It is never due: the process's own watchdog may look at the table during any test.
    return Invocation(made, {}, None, START, HARD - START, math.inf)


def test_new_invocation_is_open_and_unshielded() -> None:
    """A new invocation is open, has no shield, and keeps its plan, event, context and times."""
    made_plan, event, context = plan(), {"a": 1}, object()

    made = Invocation(made_plan, event, context, START, HARD - START, 1008.0)

    assert (made.plan, made.event, made.context) == (made_plan, event, context)
    assert (made.start, made.hard, made.due) == (START, HARD, 1008.0)
    assert (made.is_open, made.firing, made.shields) == (True, None, 0)


# ---- plans -------------------------------------------------------------------------------------


def test_plan_is_bare_only_if_it_adds_nothing() -> None:
    """A plan is bare if it has no option, no fallback and only the process's registry."""
    one, other = HookRegistry(), HookRegistry()

    assert plan(one).is_bare
    assert not plan(one, timeout=3.0).is_bare
    assert not plan(one, fallback=None).is_bare
    assert not plan(one, other).is_bare


def test_inner_plan_is_merged_once() -> None:
    """The inner plan's options, hooks and fallback win; the rest stays the outer plan's.

    The merged plan is made once.
    """
    process, outer_hooks, inner_hooks = HookRegistry(), HookRegistry(), HookRegistry()
    outer = plan(outer_hooks, process, fallback="outer", grace_period=2.0, timeout=9.0)
    inner = plan(inner_hooks, process, grace_period=1.0)
    with_fallback = plan(process, fallback="inner")

    merged = outer.with_inner(inner)

    assert merged is outer.with_inner(inner), "the plan was merged again"
    assert (merged.settings.grace_period, merged.settings.timeout) == (1.0, 9.0)
    assert merged.given == {"grace_period": 1.0, "timeout": 9.0}
    assert merged.registries == (inner_hooks, process, outer_hooks)
    assert merged.fallback == "outer"
    assert outer.with_inner(with_fallback).fallback == "inner"


# ---- times -------------------------------------------------------------------------------------


def test_timeline_uses_the_plan_settings() -> None:
    """The timeline uses the plan's grace period, hook budget and last call."""
    timeline = invocation(hook_budget=0.5, last_call=0.25).timeline()

    assert timeline.limit == HARD - START
    assert (timeline.grace_at, timeline.hook_budget) == (8.0, 0.5)
    assert timeline.last_call_at == 9.75


@pytest.mark.parametrize(("befores", "due"), [((), 1008.0), ((1.0,), 1008.0), ((3.0, 5.0), 1005.0)])
def test_invocation_is_due_at_first_stage_or_grace_period(
    befores: tuple[float, ...], due: float
) -> None:
    """An invocation is due at its earliest stage of any registry, or at the grace period."""
    first, second = HookRegistry(), HookRegistry()
    keys = [(first, first.add("plain", print))]
    for registry, before in zip((first, second), befores, strict=False):
        keys.append((registry, registry.add("staged", print, before)))
    made = invocation(first, second)

    made.reschedule()
    for registry, key in keys:
        registry.remove(key)

    assert made.due == due


def test_sampled_invocation_is_due_before_it_acts() -> None:
    """With samples an invocation is due at half of its time, or at an earlier stage."""
    registry = HookRegistry()
    made = invocation(registry, samples=3)

    made.reschedule()
    plainly = made.due, made.acts_at()
    key = registry.add("staged", print, 6.0)
    made.reschedule()
    registry.remove(key)

    assert plainly == (1005.0, 1008.0)
    assert made.due == 1004.0


def test_invocation_that_is_never_due_never_acts() -> None:
    """An invocation that is never due is not acted on, whatever its plan says."""
    assert invocation(samples=3).acts_at() == math.inf


def test_invocation_is_out_of_time_from_the_grace_period(clock: FakeClock) -> None:
    """An invocation is out of time from the grace period on, or when it has fired early."""
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


# ---- the current invocation --------------------------------------------------------------------


def test_no_current_invocation_outside_a_handler(clock: FakeClock) -> None:
    """Outside of an invocation there is no current one, and the remaining time is infinite."""
    assert current() is None
    assert remaining_time() == math.inf


def test_thread_own_invocation_is_current(clock: FakeClock) -> None:
    """A thread's own invocation is its current one, whatever other threads run."""
    own, other = invocation(), invocation()
    active.update({get_ident(): own, get_ident() + 1: other})
    clock.now = 1003.5

    assert current() is own
    assert remaining_time() == 6.5


def test_thread_without_invocation_uses_the_only_one(clock: FakeClock) -> None:
    """A thread without an invocation works for the only one there is, or for none of several."""
    only = invocation()
    active[get_ident() + 1] = only
    of_one = current()
    active[get_ident() + 2] = invocation()

    assert of_one is only
    assert current() is None


@pytest.mark.parametrize("whose", [0, 1])
def test_ended_invocation_is_ignored(whose: int) -> None:
    """An ended invocation that a user's signal handler has left in the table is ignored."""
    ended = invocation()
    ended.is_open = False
    active[get_ident() + whose] = ended

    assert current() is None


# ---- the first look ----------------------------------------------------------------------------


def test_first_look_is_for_sample_or_grace_period() -> None:
    """The first look is for a sample, for the grace period, or for an earlier stage."""
    sampled, bare = invocation(samples=20), invocation()
    registry = HookRegistry()
    early = invocation(registry, samples=20)
    key = registry.add("early", print, before=7.0)
    for each in (sampled, bare, early):
        each.reschedule()
    registry.remove(key)

    assert (sampled.due, bare.due, early.due) == (START + 5.0, HARD - 2.0, HARD - 7.0)


def test_elapsed_follows_the_clock(clock: FakeClock) -> None:
    """``elapsed()`` is the clock's time since the start."""
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
def test_message_has_elapsed_and_remaining_time(after: float, words: str) -> None:
    """The message's two figures add up to the limit, or say by how much it was exceeded."""
    assert invocation().message(after, "app.py:1 (f)") == words
