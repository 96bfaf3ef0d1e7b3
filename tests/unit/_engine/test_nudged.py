"""What a nudge's handler decides for the invocations of its thread, one after the other."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from watchdog_lambda._engine import nudged
from watchdog_lambda._engine.kernel_timers import LATE_BY
from watchdog_lambda._engine.press import PUT_OFF_PERIOD
from watchdog_lambda.errors import LambdaTimeout

if TYPE_CHECKING:
    import pytest

    from watchdog_lambda._engine.clock import Clock

NOW = 100.0


class StandingClock:
    """It stands at `NOW`, except during a pause."""

    def __init__(self) -> None:
        self.now = NOW

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def a_firing(*, is_on_its_way: bool = False) -> Any:
    timers = SimpleNamespace(set_for=[])
    timers.set = timers.set_for.append
    return SimpleNamespace(
        stages=[],
        elapsed=lambda: 1.0,
        timeline=SimpleNamespace(grace_at=2.0),
        looks_blocked=True,
        policy=SimpleNamespace(is_on_its_way=is_on_its_way, is_waiting=False),
        services=SimpleNamespace(kernel_timers=timers),
    )


def an_invocation(firing: Any, *, acts_at: float = NOW - 1, is_open: bool = True) -> Any:
    return SimpleNamespace(
        is_open=is_open,
        firing=firing,
        acts_at=lambda: acts_at,
        timeline=lambda: SimpleNamespace(hook_budget=0.01),
    )


def decided(
    monkeypatch: pytest.MonkeyPatch,
    *invocations: Any,
    error: BaseException | None = None,
    ring: Any = lambda: None,
) -> tuple[BaseException | None, list[Any]]:
    """What `decide` returns, and the firings that it has had land."""
    landed: list[Any] = []

    def land(firing: Any, _frame: object) -> BaseException | None:
        landed.append(firing)
        return error

    monkeypatch.setattr(nudged, "of_thread", lambda _thread_id: invocations)
    monkeypatch.setattr(nudged, "land", land)
    clock: Clock = StandingClock()  # type: ignore[assignment] # As much of a clock as is asked for.
    return nudged.decide(sys._getframe(), clock, ring), landed


def test_the_next_invocation_is_asked_where_one_is_not_due(monkeypatch: pytest.MonkeyPatch) -> None:
    error, firing = LambdaTimeout(), a_firing()
    early, closed = an_invocation(None, acts_at=NOW + 5), an_invocation(a_firing(), is_open=False)

    assert decided(monkeypatch, closed, early, an_invocation(firing), error=error) == (
        error,
        [firing],
    )


def test_what_the_watchdog_saw_of_a_thread_that_waited_for_it_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, firing = an_invocation(None), a_firing()

    def ring() -> None:
        late.firing = firing

    assert decided(monkeypatch, late, ring=ring) == (None, [firing])
    assert not firing.looks_blocked


def test_what_it_saw_otherwise_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    firing = a_firing()

    decided(monkeypatch, an_invocation(firing))

    assert firing.looks_blocked


def test_an_interrupt_on_its_way_has_the_kernel_nudge_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    firing, other = a_firing(is_on_its_way=True), a_firing()

    assert decided(monkeypatch, an_invocation(firing), an_invocation(other)) == (None, [firing])
    assert firing.services.kernel_timers.set_for == [NOW + PUT_OFF_PERIOD - LATE_BY]


def test_one_that_is_not_on_its_way_leaves_the_timer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    firing, other = a_firing(), a_firing()

    assert decided(monkeypatch, an_invocation(firing), an_invocation(other)) == (
        None,
        [firing, other],
    )
    assert firing.services.kernel_timers.set_for == []
