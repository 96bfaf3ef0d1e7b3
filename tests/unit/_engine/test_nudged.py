"""What a nudge's handler decides for each invocation of its thread."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda._engine import nudged
from watchdog_lambda._engine.kernel_timers import LATE_BY
from watchdog_lambda._engine.press import PUT_OFF_PERIOD
from watchdog_lambda.errors import LambdaTimeout

NOW = 100.0
CPU = 7.0


class StandingClock:
    """A clock that stands still at `NOW`, except during a pause."""

    def __init__(self) -> None:
        self.now = NOW

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return CPU

    def pause(self, seconds: float) -> None:
        self.now += seconds


def make_firing(*stages: object, is_on_its_way: bool = False, cpu_time: float = math.inf) -> Any:
    return SimpleNamespace(
        stages=stages,
        cpu_time=cpu_time,
        elapsed=lambda: 1.0,
        timeline=SimpleNamespace(grace_at=2.0),
        looks_blocked=True,
        policy=SimpleNamespace(is_on_its_way=is_on_its_way, is_waiting=False),
    )


def make_invocation(firing: Any, *, acts_at: float = NOW - 1, is_open: bool = True) -> Any:
    return SimpleNamespace(
        is_open=is_open,
        firing=firing,
        acts_at=lambda: acts_at,
        timeline=lambda: SimpleNamespace(hook_budget=0.01),
    )


class Timers:
    """Records what the kernel's timer is set to."""

    def __init__(self) -> None:
        self.set_for: list[float] = []
        self.put_off_to: list[float] = []
        self.set = self.set_for.append
        self.put_off = self.put_off_to.append


class Pace:
    """Records whether the switch interval is short."""

    is_quick = False

    def quicken(self) -> None:
        self.is_quick = True


def decided(
    monkeypatch: pytest.MonkeyPatch,
    *invocations: Any,
    error: BaseException | None = None,
    ring: Any = lambda: None,
    timers: Any = Timers(),  # noqa: B008 - it is not read
    beside: tuple[Any, ...] = (),
    clock: Any = None,
    pace: Any = Pace(),  # noqa: B008 - it is not read
) -> tuple[BaseException | None, list[Any]]:
    """Return the result of `decide`, and the firings that were asked to land."""
    landed: list[Any] = []

    def land(firing: Any, _frame: object) -> BaseException | None:
        landed.append(firing)
        return error

    monkeypatch.setattr(nudged, "of_thread", lambda _thread_id: invocations)
    monkeypatch.setattr(nudged, "watched", lambda: [(1, one) for one in invocations + beside])
    monkeypatch.setattr(nudged, "land", land)
    clock = clock or StandingClock()  # as much of a clock as is asked for
    return nudged.decide(sys._getframe(), clock, ring, pace, timers), landed


def test_next_invocation_is_asked_if_one_is_not_due(monkeypatch: pytest.MonkeyPatch) -> None:
    error, firing = LambdaTimeout(), make_firing()
    early, closed = (
        make_invocation(None, acts_at=NOW + 5),
        make_invocation(make_firing(), is_open=False),
    )

    assert decided(monkeypatch, closed, early, make_invocation(firing), error=error) == (
        error,
        [firing],
    )


def test_look_at_thread_waiting_for_the_watchdog_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, firing = make_invocation(None), make_firing()

    def ring() -> None:
        late.firing = firing

    assert decided(monkeypatch, late, ring=ring) == (None, [firing])
    assert not firing.looks_blocked


def test_pace_is_quick_before_late_watchdog_is_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the watchdog is late, turns are shortened, and only then it is rung.

    It restores the pace when it has looked.
    """
    late, pace, was_quick = make_invocation(None), Pace(), list[bool]()

    def ring() -> None:
        was_quick.append(pace.is_quick)
        late.firing = make_firing()

    decided(monkeypatch, late, ring=ring, pace=pace)

    assert was_quick == [True]


def test_earlier_look_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    firing = make_firing()

    decided(monkeypatch, make_invocation(firing))

    assert firing.looks_blocked


def test_interrupt_on_its_way_sets_the_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    firing, other, timers = make_firing(is_on_its_way=True), make_firing(), Timers()

    assert decided(monkeypatch, make_invocation(firing), make_invocation(other), timers=timers) == (
        None,
        [firing],
    )
    assert timers.set_for == [NOW + PUT_OFF_PERIOD - LATE_BY]


def test_interrupt_not_on_its_way_does_not_set_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    firing, other, timers = make_firing(), make_firing(), Timers()

    assert decided(monkeypatch, make_invocation(firing), make_invocation(other), timers=timers) == (
        None,
        [firing, other],
    )
    assert timers.set_for == timers.put_off_to == []


@pytest.mark.parametrize(
    ("acts_at", "put_off_to"), [(NOW - 1, []), (NOW, []), (NOW + 3, [NOW + 3])]
)
def test_nudge_is_deferred_if_no_invocation_is_due(
    monkeypatch: pytest.MonkeyPatch, acts_at: float, put_off_to: list[float]
) -> None:
    """If no invocation is due, the next nudge moves to the earliest due time of any thread.

    Otherwise the timer would ring every 2 ms while the watchdog waits for a processor.
    """
    timers = Timers()
    here, closed = make_invocation(None, acts_at=NOW + 5), make_invocation(None, is_open=False)
    elsewhere = make_invocation(make_firing(), acts_at=acts_at)

    decided(monkeypatch, closed, here, beside=(elsewhere,), timers=timers)

    assert timers.put_off_to == put_off_to


def test_nudge_is_deferred_without_an_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an invocation the nudge is put off to infinity by ``put_off``, not stopped.

    An invocation may begin meanwhile and hold the GIL while the watchdog needs it.
    """
    timers = Timers()

    decided(monkeypatch, timers=timers)

    assert timers.put_off_to == [math.inf]


# ---- while hooks run ---------------------------------------------------------------------------

BUDGET = 1.0


class Hooks(SimpleNamespace):
    """A stage of hooks that use up their budget."""

    def __init__(self, clock: StandingClock) -> None:
        super().__init__(is_over=lambda: clock.now >= NOW + BUDGET)


def with_hooks(clock: StandingClock, cpu_time: float) -> Any:
    one = make_invocation(make_firing(Hooks(clock), cpu_time=cpu_time))
    one.timeline = lambda: SimpleNamespace(hook_budget=BUDGET)
    return one


@pytest.mark.parametrize("cpu_time", [math.inf, CPU, CPU - 0.0005])
def test_thread_that_does_not_compute_is_held_for_a_turn(
    monkeypatch: pytest.MonkeyPatch, cpu_time: float
) -> None:
    """A thread that does not compute goes on after a turn, and is nudged again soon.

    It may be blocked in a call that a hook ends. No interrupt lands before the hooks have ended.
    """
    clock, timers = StandingClock(), Timers()
    one = with_hooks(clock, cpu_time)

    assert decided(monkeypatch, one, timers=timers, clock=clock) == (None, [])
    assert clock.now == pytest.approx(NOW + nudged._TURN, abs=0.0011)
    assert timers.put_off_to == [clock.now]
    assert one.firing.cpu_time == CPU


def test_thread_that_computes_is_held_until_hooks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has computed since the last nudge may hold the GIL, so hooks get their time."""
    clock, timers = StandingClock(), Timers()
    one = with_hooks(clock, CPU - 0.002)

    assert decided(monkeypatch, one, timers=timers, clock=clock) == (None, [one.firing])
    assert clock.now == pytest.approx(NOW + BUDGET, abs=0.0011)
    assert timers.put_off_to == []


def test_turn_begins_with_the_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn begins when the hooks do, however late the watchdog is."""
    clock = StandingClock()
    one = with_hooks(clock, math.inf)
    firing, one.firing = one.firing, None

    def ring() -> None:
        if clock.now > NOW + 0.3:
            one.firing = firing

    assert decided(monkeypatch, one, ring=ring, clock=clock) == (None, [])
    assert clock.now == pytest.approx(NOW + 0.3 + nudged._TURN, abs=0.0021)
    assert firing.cpu_time == CPU


def test_interrupt_of_another_limit_lands_while_hooks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hooks of one invocation do not hold back the interrupt of a block in the same thread."""
    clock, block = StandingClock(), make_firing()
    error = LambdaTimeout()

    assert decided(
        monkeypatch, with_hooks(clock, CPU), make_invocation(block), error=error, clock=clock
    ) == (error, [block])
