"""One attempt to land an interrupt: what is done, and when the next attempt is due."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda._engine import press as module
from watchdog_lambda._engine.press import LATE_PERIOD, PUT_OFF_PERIOD, Press

LIMIT, LAST_CALL_AT, NOW = 30.0, 29.5, 27.0


class Scene:
    """A firing whose handler's thread can be nudged, and a record of what is done to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.did: list[str] = []
        self.reaches = True
        self.is_quiet = False
        self.is_wanted = True
        self.cleans_up = False
        self.policy: Any = SimpleNamespace(
            is_waiting=True,
            is_put_off=False,
            start=lambda details: self.did.append(f"start {details}"),
            is_wanted=lambda _now, _handled: self.is_wanted,
            leave_alone=lambda: self.did.append("leave alone"),
        )
        self.firing: Any = SimpleNamespace(
            invocation=SimpleNamespace(is_open=True),
            may_interrupt=True,
            thread_id=7,
            policy=self.policy,
            details="details",
            delivery="none",
            looks_blocked=False,
            timeline=SimpleNamespace(limit=LIMIT, last_call_at=LAST_CALL_AT),
            services=SimpleNamespace(
                nudge=SimpleNamespace(reaches=lambda _thread: self.reaches),
                injector=SimpleNamespace(available=True),
            ),
        )
        cadence = SimpleNamespace(
            quiet_until=27.25, is_quiet=lambda _now: self.is_quiet, send=self._send
        )
        severing = SimpleNamespace(step=lambda _now: self.did.append("sever"))
        monkeypatch.setattr(module, "Cadence", lambda _nudge: cadence)
        monkeypatch.setattr(module, "Severing", lambda _firing, _cadence: severing)
        monkeypatch.setattr(module, "handled_by", lambda _thread: None)
        monkeypatch.setattr(module, "main_is_blocked", lambda _thread: True)
        monkeypatch.setattr(module, "cleans_up_for_another", lambda *_: self.cleans_up)
        monkeypatch.setattr(module, "inject", lambda *_: self.did.append("inject"))

    def _send(self, _now: float, last_call_at: float) -> float:
        assert last_call_at == LAST_CALL_AT
        self.did.append("nudge")
        return 0.125

    def step(self, now: float = NOW) -> float:
        return Press(self.firing).step(now)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_main_thread_is_nudged_after_a_look_at_its_wait(scene: Scene) -> None:
    """The main thread's wait is looked at and then nudged, once interrupts are allowed.

    The next attempt is due when the cadence says so.
    """
    assert scene.step() == NOW + 0.125

    assert scene.did == ["start details", "sever", "nudge"]
    assert (scene.firing.delivery, scene.firing.looks_blocked) == ("nudge", True)


def test_other_thread_is_injected(scene: Scene) -> None:
    """In another thread an interrupt is injected, and tried again after 10 ms."""
    scene.reaches = scene.policy.is_waiting = False

    assert scene.step() == pytest.approx(NOW + 0.01)
    assert scene.did == ["inject"]
    assert scene.firing.delivery == "injection"


def test_nothing_is_done_without_nudge_and_injector(scene: Scene) -> None:
    """Without a nudge and an injector nothing is done, and the delivery is recorded as "none"."""
    scene.reaches = scene.policy.is_waiting = False
    scene.firing.services.injector.available = False

    scene.step()

    assert (scene.did, scene.firing.delivery) == ([], "none")


def test_no_nudge_is_sent_during_a_pause(scene: Scene) -> None:
    """No nudge is sent while a wait is about to run out, whatever has woken the watchdog.

    An injection does not disturb the wait, so it is made.
    """
    scene.is_quiet, scene.policy.is_waiting = True, False

    assert scene.step() == 27.25
    assert scene.did == []
    scene.reaches = False
    scene.step()
    assert scene.did == ["inject"]


@pytest.mark.parametrize("what", ["not wanted", "another's cleanup"])
def test_no_nudge_is_sent_if_unwanted_or_in_other_cleanup(scene: Scene, what: str) -> None:
    """No nudge is sent if no interrupt is wanted, or if a cleanup of another timeout runs."""
    scene.policy.is_waiting = False
    scene.is_wanted = what != "not wanted"
    scene.cleans_up = what == "another's cleanup"

    assert scene.step() == pytest.approx(NOW + 0.01)
    assert scene.did == ["leave alone"]


def test_deferred_interrupt_is_retried_after_1_ms(scene: Scene) -> None:
    """A deferred interrupt is tried again after 1 ms."""
    scene.policy.is_put_off = True

    assert scene.step() == NOW + PUT_OFF_PERIOD


def test_attempts_are_rarer_after_the_hard_deadline(scene: Scene) -> None:
    """From the hard deadline on, where Lambda does not kill, attempts are further apart."""
    assert scene.step(LIMIT) == LIMIT + LATE_PERIOD
    assert scene.step(math.nextafter(LIMIT, 0.0)) == pytest.approx(LIMIT + 0.125)


@pytest.mark.parametrize("what", ["closed", "durable"])
def test_nothing_is_tried_where_nothing_may_land(scene: Scene, what: str) -> None:
    """Nothing is tried after the handler's end, or in a durable function."""
    scene.firing.invocation.is_open = what != "closed"
    scene.firing.may_interrupt = what != "durable"

    assert scene.step() == NOW + LATE_PERIOD
    assert scene.did == []
