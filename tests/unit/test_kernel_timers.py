"""What the kernel is asked to do while the thread sleeps, and for whom."""

from __future__ import annotations

import atexit
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock, plan
from watchdog_lambda._engine import kernel_timers
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.kernel_timers import KernelTimers

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1000.0


class Kernel:
    """Timer, last words and exit, all of which only take down what they are asked for."""

    def __init__(self, kernel_timers: KernelTimers, nudge: SimpleNamespace) -> None:
        self.kernel_timers = kernel_timers
        self.nudge = nudge
        self.asked: list[object] = []
        self.made: list[object] = []
        self.at_exit: list[Callable[[], object]] = []
        self.timer = SimpleNamespace(
            available=True,
            set=lambda *given: self.asked.append(("timer", *given)),
            stop=lambda: self.asked.append("timer stops"),
        )
        self.words = SimpleNamespace(
            set=lambda *given, is_open: self.asked.append(("words", *given, is_open)),
            stop=lambda: self.asked.append("words stop"),
            close=lambda: self.asked.append("words close"),
        )

    def make(self, part: object) -> Callable[..., object]:
        def made(*given: object) -> object:
            self.made.append(given)
            return part

        return made


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Equipped, at 1000 s."""
    nudge = SimpleNamespace(number=10, native_id=77, is_ours=lambda: True)
    kernel = Kernel(KernelTimers(FakeClock(START), nudge), nudge)  # type: ignore[arg-type]
    monkeypatch.setattr(kernel_timers, "ThreadTimer", kernel.make(kernel.timer))
    monkeypatch.setattr(kernel_timers, "StackDumpTimer", kernel.make(kernel.words))
    monkeypatch.setattr(atexit, "register", kernel.at_exit.append)
    kernel.kernel_timers.equip()
    return kernel


def invocation(seconds: float) -> Invocation:
    return Invocation(plan(), {}, None, START, START + seconds, START)


def firing(*, is_reported: bool) -> Any:
    return SimpleNamespace(is_reported=is_reported)


def test_timers_are_had_once_and_stopped_at_exit(kernel: Kernel) -> None:
    """For the thread that is nudged; a signal at exit would end the process."""
    kernel.kernel_timers.equip()

    assert kernel.made == [(10, 77), (10, 77)]
    assert kernel.at_exit == [kernel.timer.stop, kernel.words.stop]


def test_before_it_is_equipped_nothing_is_asked_for() -> None:
    """There is no main thread to nudge yet; nothing fails."""
    kernel_timers = KernelTimers(FakeClock(), SimpleNamespace())  # type: ignore[arg-type]
    one = invocation(10.0)
    kernel_timers.choose([one])

    kernel_timers.set(START)
    kernel_timers.rest()
    kernel_timers.ends(one)

    assert kernel_timers.dump_for is None


def test_a_child_of_fork_has_none(kernel: Kernel) -> None:
    """The kernel does not hand them on; whatever is asked for goes nowhere."""
    kernel.kernel_timers.choose([invocation(10.0)])

    kernel.kernel_timers.forget()
    kernel.kernel_timers.set(START)
    kernel.kernel_timers.rest()

    assert kernel.kernel_timers.dump_for is None
    assert kernel.asked == []


def test_the_thread_is_nudged_for_a_little_after_it_should_have_woken(kernel: Kernel) -> None:
    """And again and again from then on."""
    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == [("timer", 5.02, 0.02), "words stop"]


def test_nobody_is_sent_a_signal_that_has_been_taken_over(kernel: Kernel) -> None:
    """The timer stops."""
    kernel.nudge.is_ours = lambda: False

    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == ["timer stops", "words stop"]


def test_last_words_need_no_timer(kernel: Kernel) -> None:
    """Where the kernel has none to give."""
    kernel.timer.available = False

    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == ["words stop"]


def test_it_speaks_for_whose_time_comes_first(kernel: Kernel) -> None:
    """Of those that are not reported yet, whatever their order."""
    first, later, latest, reported = map(invocation, (10.0, 20.0, 30.0, 5.0))
    first.firing = firing(is_reported=False)
    reported.firing = firing(is_reported=True)

    kernel.kernel_timers.choose([later, first, latest, reported])
    kernel.kernel_timers.set(START)

    assert kernel.kernel_timers.dump_for is first
    _, (words, spoken, now, is_open) = kernel.asked  # type: ignore[misc]
    assert (words, spoken.hard, now, is_open) == ("words", START + 10.0, START, True)  # type: ignore[has-type]


def test_of_equals_the_first_is_spoken_for(kernel: Kernel) -> None:
    """It stays the same one at each look."""
    one, other = invocation(10.0), invocation(10.0)

    kernel.kernel_timers.choose([one, other])

    assert kernel.kernel_timers.dump_for is one


def test_for_nobody_it_does_not_speak(kernel: Kernel) -> None:
    """Once they have all ended or been reported."""
    kernel.kernel_timers.choose([invocation(10.0)])

    kernel.kernel_timers.choose([])
    kernel.kernel_timers.set(START)

    assert kernel.kernel_timers.dump_for is None
    assert kernel.asked[1:] == ["words stop"]


def test_it_stays_ready_to_speak_for_those_that_come_and_go(kernel: Kernel) -> None:
    """An idle process: the words are kept, and not open."""
    kernel.kernel_timers.choose([invocation(10.0)])

    kernel.kernel_timers.keep()
    kernel.kernel_timers.set(START)

    assert kernel.kernel_timers.dump_for is None
    assert kernel.asked[1][-1] is False  # type: ignore[index]
    assert len(kernel.asked) == 2


def test_one_that_has_ended_meanwhile_is_not_spoken_for(kernel: Kernel) -> None:
    """It took back what was not set yet."""
    one = invocation(10.0)
    kernel.kernel_timers.choose([one])
    one.is_open = False

    kernel.kernel_timers.set(START)

    assert kernel.asked[-1] == "words close"
    assert kernel.kernel_timers.dump_for is None


def test_an_end_takes_its_own_words_back(kernel: Kernel) -> None:
    """Nobody else's."""
    one, other = invocation(10.0), invocation(20.0)
    kernel.kernel_timers.choose([one, other])

    kernel.kernel_timers.ends(other)
    assert (kernel.asked, kernel.kernel_timers.dump_for) == ([], one)
    kernel.kernel_timers.ends(one)
    assert (kernel.asked, kernel.kernel_timers.dump_for) == (["words close"], None)


def test_a_thread_that_runs_speaks_for_itself(kernel: Kernel) -> None:
    """And faulthandler must not look at threads that run."""
    kernel.kernel_timers.rest()

    assert kernel.asked == ["words stop"]
