"""When the thread steps aside for a fork, and who has it back; real forks are in tests/threads."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock
from watchdog_lambda._engine import fork
from watchdog_lambda._engine.fork import PATIENCE, StepAside, _threads

if TYPE_CHECKING:
    from collections.abc import Callable


class Watchdog:
    """A watchdog whose thread does what a test has it do at each pause of the fork."""

    def __init__(self, clock: FakeClock) -> None:
        self._thread_id: int | None = 77
        self._alarm = clock.alarm
        self.wake_at = 5.0
        self.nudge = SimpleNamespace(number=None, reaches=lambda _ident: True)
        self.started = 0

    def _start(self) -> None:
        self.started += 1


class Scene:
    """The two, and the kernel's count of threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        self.watchdog = Watchdog(self.clock)
        self.aside = StepAside(self.watchdog)  # type: ignore[arg-type]
        self.threads = 2
        self.pauses = 0
        self.at_pause: Callable[[], object] = lambda: None
        clock = SimpleNamespace(monotonic=self.clock.monotonic, pause=self._pause)
        monkeypatch.setattr(fork, "SystemClock", clock)
        monkeypatch.setattr(fork, "_threads", lambda: self.threads)

    def _pause(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pauses += 1
        self.at_pause()

    def leave(self) -> None:
        """The thread does as it is asked."""
        if self.aside.leaves():
            self.threads -= 1


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


@pytest.fixture
def something_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    active: dict[int, Any] = {1: object()}
    monkeypatch.setattr(fork, "active", active)


def test_the_thread_is_asked_to_end_and_waited_for(scene: Scene) -> None:
    """It counts as gone then, and the next invocation rings."""
    scene.at_pause = scene.leave

    scene.aside.before()

    assert scene.clock.alarm.rung == 1
    assert scene.pauses == 1
    assert scene.watchdog._thread_id is None
    assert scene.watchdog.wake_at == math.inf
    assert not scene.aside.is_wanted


def test_a_thread_that_nobody_asks_stays(scene: Scene) -> None:
    """It looks at each turn."""
    assert not scene.aside.leaves()
    assert scene.watchdog._thread_id == 77


def test_a_thread_that_does_not_end_in_time_is_kept(scene: Scene) -> None:
    """The fork goes on, with its warning; the request is taken back behind it."""
    scene.aside.before()
    waited = scene.clock.now - 1000.0
    still_wanted = scene.aside.is_wanted
    scene.aside.after()

    assert waited == pytest.approx(PATIENCE, rel=0.01)
    assert still_wanted
    assert not scene.aside.is_wanted
    assert scene.watchdog.started == 0


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_with_other_threads_it_is_left_alone(scene: Scene, threads: int) -> None:
    """The warning comes anyway; and without /proc nobody counts."""
    scene.threads = threads

    scene.aside.before()

    assert not scene.aside.is_wanted
    assert scene.clock.alarm.rung == 0


def test_forks_in_a_row_leave_the_interrupt_some_time(scene: Scene) -> None:
    """A nudge that has met a frame of this module could land nothing; others do not count."""
    scene.aside.note(SimpleNamespace(f_code=compile("", "app.py", "exec")))  # type: ignore[arg-type]
    assert scene.aside._met_at == -math.inf

    ours = SimpleNamespace(f_code=StepAside.before.__code__)
    scene.aside.note(ours)  # type: ignore[arg-type]
    scene.aside.before()
    assert not scene.aside.is_wanted

    scene.clock.advance(0.051)
    scene.at_pause = scene.leave
    scene.aside.before()
    assert scene.watchdog._thread_id is None


def test_a_thread_that_is_gone_is_not_asked(scene: Scene) -> None:
    """The request would be taken for a thread that lives on."""
    scene.watchdog._thread_id = None

    scene.aside.before()

    assert not scene.aside.is_wanted
    assert scene.pauses == 0


def test_what_another_fork_has_asked_for_is_left_to_it(scene: Scene) -> None:
    """Two threads fork at once."""
    scene.aside.is_wanted = True

    scene.aside.before()

    assert scene.clock.alarm.rung == 0


def test_a_request_that_another_fork_takes_back_ends_the_wait(scene: Scene) -> None:
    """The thread lives on, and would be waited for in vain."""
    scene.at_pause = scene.aside.after

    scene.aside.before()

    assert scene.pauses == 1
    assert scene.watchdog._thread_id == 77


@pytest.mark.usefixtures("something_to_watch")
def test_without_a_nudge_the_thread_is_started_at_once(scene: Scene) -> None:
    """Or where the nudge reaches another thread than the one that has forked."""
    scene.watchdog._thread_id = None
    scene.aside.after()
    scene.watchdog.nudge = SimpleNamespace(number=10, reaches=lambda _ident: False)
    scene.aside.after()

    assert scene.watchdog.started == 2
    assert scene.aside._signals == []


@pytest.mark.usefixtures("something_to_watch")
def test_on_the_main_thread_the_nudge_starts_it(scene: Scene) -> None:
    """Behind the fork, once the interpreter has counted; and a later fork does not nudge for it."""
    scene.watchdog._thread_id = None
    scene.watchdog.nudge.number = 10

    scene.aside.after()

    assert scene.aside._signals == [10]
    assert scene.watchdog.started == 0
    scene.aside.before()
    assert scene.aside._signals == []


def test_with_nothing_to_watch_the_next_invocation_starts_it(scene: Scene) -> None:
    """And a thread that is there is not started again."""
    scene.watchdog._thread_id = None
    scene.aside.after()

    assert scene.watchdog.started == 0


@pytest.mark.usefixtures("something_to_watch")
def test_a_thread_that_has_stayed_is_not_started(scene: Scene) -> None:
    """There would be two."""
    scene.aside.after()

    assert scene.watchdog.started == 0


def test_threads_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """None where there is no /proc."""
    assert _threads() == len(os.listdir("/proc/self/task"))  # noqa: PTH208

    def missing(_path: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(os, "listdir", missing)
    assert _threads() == 0
