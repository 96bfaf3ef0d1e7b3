"""When a wait that no nudge reaches is severed, on a fake clock."""

from __future__ import annotations

from _thread import RLock
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda._cpython import severing as severing_calls
from watchdog_lambda._cpython import syscalls
from watchdog_lambda._cpython.syscalls import Blocked
from watchdog_lambda._engine import severing
from watchdog_lambda._engine.cadence import LONGEST_WAIT, QUICK
from watchdog_lambda._engine.severing import AFTER, MOST, SHARE, Severing

GRACE_AT, LAST_CALL_AT = 27.0, 29.5


class Held:
    """Stands in for a held wait, and records whether it was ended and closed."""

    def __init__(self, unheard: int, *, begins_anew: bool = True, runs: bool = False) -> None:
        self.unheard = unheard
        self.begins_anew = begins_anew
        self.runs = runs
        self.ended = False
        self.is_closed = False

    def has_begun_anew(self) -> bool:
        return self.begins_anew

    def is_unmoved(self) -> bool:
        return not self.runs

    def end(self) -> list[str]:
        self.ended = True
        return ["10.0.0.5:5432"]

    def close(self) -> None:
        self.is_closed = True


class Scene:
    """A thread in C code that hears no nudge."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, sever: bool = True) -> None:
        self.limit: int = -1
        self.held: list[Held] = []
        self.asked: list[dict[str, Any]] = []
        self.begins_anew, self.runs = True, False
        self.cadence = SimpleNamespace(unheard=QUICK, has_waited=False)
        self.firing: Any = SimpleNamespace(
            invocation=SimpleNamespace(
                is_open=True,
                plan=SimpleNamespace(settings=SimpleNamespace(sever=sever)),
            ),
            timeline=SimpleNamespace(last_call_at=LAST_CALL_AT),
            services=SimpleNamespace(nudge=SimpleNamespace(native_id=7)),
            elapsed=lambda: GRACE_AT,
            thread_id=1,
            policy=SimpleNamespace(severed_at=set()),
            severed=[],
            lock=RLock(),
        )
        monkeypatch.setattr(severing, "frame_of", lambda _id: SimpleNamespace(f_code=0, f_lasti=4))
        monkeypatch.setattr(
            syscalls, "blocked_in", lambda _id: Blocked(7, (0, 1, self.limit, 0, 0, 0), "poll")
        )
        monkeypatch.setattr(severing_calls, "hold", self._hold)
        monkeypatch.setattr(severing, "spared", {"127.0.0.1:9001"})
        self.rung = Severing(self.firing, self.cadence)  # type: ignore[arg-type]

    def _hold(self, _native_id: int, unheard: int, **given: Any) -> Held:
        self.asked.append(given)
        self.held.append(Held(unheard, begins_anew=self.begins_anew, runs=self.runs))
        return self.held[-1]

    def press(self, now: float) -> None:
        """Run a step, as the watchdog does before a nudge, and count the nudge as unheard."""
        self.rung.step(now)
        self.cadence.unheard += 1


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_wait_is_ended_after_the_nudges_had_their_time(scene: Scene) -> None:
    """After the nudges have had their time, the wait is held, and ended before the next nudge."""
    scene.press(GRACE_AT)
    scene.press(GRACE_AT + AFTER - 0.001)
    assert scene.held == []
    scene.press(GRACE_AT + AFTER)
    assert not scene.held[0].ended
    scene.press(GRACE_AT + AFTER + 0.01)

    assert [(held.ended, held.is_closed) for held in scene.held] == [(True, True)]
    assert scene.firing.severed == ["10.0.0.5:5432"]
    assert scene.firing.policy.severed_at == {(0, 4)}
    assert scene.asked[0]["spared"] == {"127.0.0.1:9001"}


def test_nudges_get_a_third_of_a_short_grace_period(scene: Scene) -> None:
    """In a short grace period the nudges have a third of the time, and cleanups have the rest."""
    begun = LAST_CALL_AT - 0.3
    scene.press(begun)
    scene.press(begun + 0.3 * SHARE - 0.001)
    assert scene.held == []
    scene.press(begun + 0.3 * SHARE + 0.001)
    assert len(scene.held) == 1


def late(scene: Scene, presses: int = 4) -> None:
    """Nudge until severing is due, and then that many times more."""
    scene.press(GRACE_AT)
    for n in range(presses):
        scene.press(GRACE_AT + AFTER + n * 0.01)


@pytest.mark.parametrize("what", ["begins_anew", "runs", "settled"])
def test_changed_wait_is_released(what: str, scene: Scene) -> None:
    """A held wait is released if it was not repeated, if the thread has run, or after settle."""
    if what == "settled":
        scene.firing.invocation.is_open = False
    else:
        setattr(scene, what, not getattr(scene, what))
    late(scene)

    assert not any(held.ended for held in scene.held)
    assert [held.is_closed for held in scene.held] == [True, True, True, False]
    assert scene.firing.severed == []


def test_thread_that_hears_is_not_severed(scene: Scene) -> None:
    """A thread that hears a nudge is not severed, not even after its wait was held."""
    scene.press(GRACE_AT)
    scene.cadence.unheard = QUICK - 1
    scene.press(GRACE_AT + AFTER)
    assert scene.held == []
    scene.press(GRACE_AT + AFTER + 0.01)
    scene.cadence.unheard = 0
    scene.press(GRACE_AT + AFTER + 0.02)

    assert not scene.held[0].ended


def test_wait_is_ended_only_after_a_nudge_in_between(scene: Scene) -> None:
    """A held wait is ended only after a nudge in between, even if the watchdog looks earlier."""
    scene.press(GRACE_AT)
    scene.rung.step(GRACE_AT + AFTER)
    scene.rung.step(GRACE_AT + AFTER)

    assert not scene.held[0].ended


@pytest.mark.parametrize(("has_waited", "held"), [(False, 0), (True, 2)])
def test_short_wait_is_held_only_if_it_ran_out_unheard(
    has_waited: bool,  # noqa: FBT001
    held: int,
    scene: Scene,
) -> None:
    """A short wait is held only if it has run out unheard.

    psycopg and gRPC look at signals between their short waits.
    """
    scene.limit = round(LONGEST_WAIT * 1000)
    scene.cadence.has_waited = has_waited
    late(scene)

    assert len(scene.held) == held


def test_number_of_severed_waits_is_limited(scene: Scene) -> None:
    """Severing ends after a fixed number of connections, because a client may reconnect."""
    late(scene, presses=4 * MOST)

    assert len(scene.firing.severed) == MOST


def test_no_wait_is_held_if_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``SEVER=0`` no wait is held."""
    scene = Scene(monkeypatch, sever=False)
    late(scene)

    assert scene.held == []
