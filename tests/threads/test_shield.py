"""The shield defers the interrupt to the end of its block, until last call at most."""

from __future__ import annotations

import threading
import time
from _thread import RLock
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.support import Context, block, elsewhere, here, plan
from watchdog_lambda import LambdaTimeout, _api, shield, watch
from watchdog_lambda._engine.current import active
from watchdog_lambda._engine.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("run", [here, elsewhere], ids=["nudge", "injection"])
def test_interrupt_lands_at_end_of_outermost_shield(
    run: Callable[[Callable[[], object]], object],
) -> None:
    """The interrupt lands at the end of the outermost shield, and not a line later."""
    steps: list[str] = []

    @watch(grace_period=0.5)
    def handler(_event: object, _context: object) -> None:
        try:
            with shield():
                with shield():
                    until = time.monotonic() + 0.7
                    while time.monotonic() < until:
                        pass
                    steps.append("inner")
                steps.append("outer")
            steps.append("one line later")
        except LambdaTimeout:
            steps.append("landed")
            raise

    with pytest.raises(LambdaTimeout):
        run(lambda: handler({}, Context(0.8)))

    assert steps == ["inner", "outer", "landed"]


def test_last_call_interrupts_a_shield() -> None:
    """Last call interrupts a shield, which could otherwise last beyond the hard deadline."""

    @watch(grace_period=0.5)
    def handler(_event: object, _context: object) -> None:
        with shield():
            block()

    context = Context(2.0)
    with pytest.raises(LambdaTimeout):
        handler({}, context)

    assert 0 < context.get_remaining_time_in_millis() < 200


def test_shield_without_timeout_or_invocation_does_nothing() -> None:
    """A shield does nothing without a timeout or outside of an invocation."""
    with shield():
        pass

    @watch
    def handler(_event: object, _context: object) -> str:
        with shield():
            return "ended"

    assert handler({}, Context(5.0)) == "ended"


def test_error_of_shielded_block_is_raised() -> None:
    """An error of the shielded block gets out if no interrupt is due."""

    @watch
    def handler(_event: object, _context: object) -> None:
        with shield():
            raise KeyError("commit")

    with pytest.raises(KeyError, match="commit"):
        handler({}, Context(5.0))


@pytest.mark.parametrize("lands", [False, True])
def test_interrupt_at_shield_entry_leaves_no_shield(
    monkeypatch: pytest.MonkeyPatch,
    lands: bool,  # noqa: FBT001
) -> None:
    """An injection that is pending at a shield's entry is withdrawn, or lands before the block."""
    seen: list[int] = []

    def withdraw() -> bool:
        seen.append(invocation.shields)
        if lands:
            raise LambdaTimeout
        return False

    now = time.monotonic()  # not long ago, or the watchdog itself would fire
    invocation = Invocation(plan(), {}, None, now, 900.0, now + 897.0)
    firing = SimpleNamespace(lock=RLock(), withdraw=withdraw, is_reported=True, fired_at=0.0)
    invocation.firing = firing  # type: ignore[assignment]
    monkeypatch.setattr(_api, "land_at_shield", lambda _firing, _frame: None)
    monkeypatch.setitem(active, threading.get_ident(), invocation)
    entered: list[int] = []

    try:
        with shield():
            entered.append(invocation.shields)
    except LambdaTimeout:
        assert lands

    assert seen == [1]
    assert entered == ([] if lands else [1])
    assert invocation.shields == 0
