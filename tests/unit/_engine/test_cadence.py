"""When the handler's thread is nudged again, on a fake clock."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda._cpython import syscalls
from watchdog_lambda._cpython.syscalls import Blocked
from watchdog_lambda._engine.cadence import (
    LONGEST_WAIT,
    MARGIN,
    NUDGE_PERIOD,
    QUICK,
    Cadence,
)

LAST_CALL_AT = 2.5


class Thread:
    """Simulates a thread that waits in C, with its clock and the nudges that it gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.sent: list[float] = []
        self.wait: Blocked | None = None
        nudge: Any = SimpleNamespace(heard=0, native_id=7, send=self._nudged)
        self.nudge = nudge
        self.cadence = Cadence(self.nudge)
        monkeypatch.setattr(syscalls, "is_told", lambda: True)
        monkeypatch.setattr(syscalls, "blocked_in", lambda _native_id: self.wait)

    def _nudged(self) -> None:
        self.sent.append(self.now)

    def polls(self, milliseconds: int) -> None:
        self.wait = Blocked(7, (0, 1, milliseconds, 0, 0, 0), "poll")

    def go_on(self, until: float) -> None:
        """Send nudges until the given instant, as the watchdog does."""
        while self.now < until:
            if self.cadence.is_quiet(self.now):
                self.now = self.cadence.quiet_until
            else:
                self.now += self.cadence.send(self.now, LAST_CALL_AT)

    def longest_pause(self) -> float:
        return max(after - before for before, after in pairwise(self.sent))


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    return Thread(monkeypatch)


def test_running_thread_is_nudged_every_10_ms(thread: Thread) -> None:
    """A running thread sees each nudge soon, so unheard nudges are not a reason to pause."""
    thread.go_on(1.0)

    assert thread.longest_pause() == pytest.approx(NUDGE_PERIOD)


def test_thread_that_hears_is_nudged_every_10_ms(thread: Thread) -> None:
    """A nudge that was heard, though its interrupt was deferred, is not a reason to pause."""
    thread.polls(100)
    for _ in range(3 * QUICK):
        assert thread.cadence.send(thread.now, LAST_CALL_AT) == NUDGE_PERIOD
        thread.nudge.heard += 1


@pytest.mark.parametrize(("milliseconds", "looks_at"), [(100, 0.15), (200, 0.25)])
def test_repeated_wait_is_allowed_to_run_out(
    milliseconds: int, looks_at: float, thread: Thread
) -> None:
    """After five nudges, the next one comes only when the wait's own limit has passed.

    psycopg and gRPC wait in such steps.
    """
    thread.polls(milliseconds)
    thread.go_on(1.0)

    assert thread.sent[:QUICK] == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04])
    assert thread.sent[QUICK] == pytest.approx(0.04 + milliseconds / 1000 + MARGIN)
    assert thread.sent[QUICK] > looks_at - 0.01 + MARGIN - 0.001
    assert thread.sent[QUICK] < 0.4


@pytest.mark.parametrize(
    "milliseconds", [-1, round(LONGEST_WAIT * 1000) + 1], ids=["unlimited", "long"]
)
def test_wait_without_short_limit_gets_no_pause(milliseconds: int, thread: Thread) -> None:
    """A wait without a limit, or with one beyond a second, would take too long, so nudges go on."""
    thread.polls(milliseconds)
    thread.go_on(1.0)

    assert thread.longest_pause() == pytest.approx(NUDGE_PERIOD)


def test_no_pause_extends_into_last_call(thread: Thread) -> None:
    """A pause would not end before last call here, so the nudges go on every 10 ms."""
    thread.polls(200)
    thread.now = LAST_CALL_AT - 0.2
    thread.go_on(LAST_CALL_AT + 0.2)

    assert thread.longest_pause() == pytest.approx(NUDGE_PERIOD)


def test_pause_ends_once_a_nudge_is_heard(thread: Thread) -> None:
    """Once a nudge is heard the pause ends, because the thread may wait or swallow again."""
    thread.polls(200)
    while not thread.cadence.is_quiet(thread.now):
        thread.cadence.send(thread.now, LAST_CALL_AT)
    thread.nudge.heard += 1

    assert not thread.cadence.is_quiet(thread.now)
    assert thread.cadence.send(thread.now, LAST_CALL_AT) == NUDGE_PERIOD
    assert thread.cadence.unheard == 1


def test_pauses_alternate_if_the_wait_is_unknown(
    thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel does not show the wait, pauses of 125 and 250 ms alternate.

    So a wait of 100 ms is over by 0.15 s, and one of 200 ms by 0.4 s.
    """
    monkeypatch.setattr(syscalls, "is_told", lambda: False)
    thread.go_on(0.5)

    pauses = [round(after - before, 3) for before, after in pairwise(thread.sent)]
    assert pauses[: QUICK - 1] == [NUDGE_PERIOD] * (QUICK - 1)
    assert sorted(pauses[QUICK - 1 : QUICK + 1]) == [0.125, 0.25]
    thread.now = LAST_CALL_AT
    assert thread.cadence.send(thread.now, LAST_CALL_AT) == NUDGE_PERIOD


def test_interval_between_usual_nudges_is_not_a_pause(thread: Thread) -> None:
    """Between two nudges 10 ms apart the thread is not in a pause, so an early look may nudge."""
    thread.cadence.send(0.0, LAST_CALL_AT)

    assert not thread.cadence.is_quiet(0.001)


def test_longest_pause_is_one_second(thread: Thread) -> None:
    """A wait of exactly one second is still given the time to run out."""
    thread.polls(round(LONGEST_WAIT * 1000))
    for _ in range(QUICK - 1):
        thread.cadence.send(0.0, LAST_CALL_AT)

    assert thread.cadence.send(0.0, LAST_CALL_AT) == LONGEST_WAIT + MARGIN


def test_has_waited_is_set_until_a_nudge_is_heard(thread: Thread) -> None:
    """``has_waited`` is set when a wait has run out unheard, until a nudge is heard."""
    thread.polls(100)
    noted = []
    for _ in range(QUICK + 1):
        thread.cadence.send(0.0, LAST_CALL_AT)
        noted.append(thread.cadence.has_waited)
    thread.nudge.heard += 1
    thread.cadence.send(0.0, LAST_CALL_AT)

    assert noted == [False] * QUICK + [True]
    assert thread.cadence.has_waited is False
