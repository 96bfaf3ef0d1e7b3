"""What the kernel is asked to do while the thread sleeps, and for whom."""

from __future__ import annotations

import atexit
import math
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
    """Timer, dump and exit, all of which only take down what they are asked for."""

    def __init__(self, nudge: SimpleNamespace) -> None:
        self.clock = FakeClock(START)
        self.kernel_timers = KernelTimers(self.clock, nudge)  # type: ignore[arg-type]
        self.nudge = nudge
        self.asked: list[object] = []
        self.made: list[object] = []
        self.at_exit: list[Callable[[], object]] = []
        self.timer = SimpleNamespace(
            available=True,
            set=lambda *given: self.asked.append(("timer", *given)),
            stop=lambda: self.asked.append("timer stops"),
        )
        self.dump = SimpleNamespace(
            set=lambda *given, is_open: self.asked.append(("dump", *given, is_open)),
            stop=lambda: self.asked.append("dump stop"),
            close=lambda: self.asked.append("dump close"),
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
    kernel = Kernel(nudge)
    monkeypatch.setattr(kernel_timers, "ThreadTimer", kernel.make(kernel.timer))
    monkeypatch.setattr(kernel_timers, "StackDumpTimer", kernel.make(kernel.dump))
    monkeypatch.setattr(atexit, "register", kernel.at_exit.append)
    kernel.kernel_timers.equip()
    return kernel


def invocation(seconds: float) -> Invocation:
    return Invocation(plan(), {}, None, START, seconds, START)


def times(seconds: float, now: float = 0.0) -> tuple[float, float]:
    """In how many seconds the dump of an invocation of so many seconds comes, and is overdue."""
    grace = min(3.0, seconds / 4)
    last_call = min(0.5, grace / 4)
    dump_at = seconds - last_call / 4
    overdue_at = seconds - (grace + last_call) / 2
    return dump_at - now, (overdue_at if now < seconds - grace else dump_at) - now


def firing(*, is_reported: bool) -> Any:
    return SimpleNamespace(is_reported=is_reported)


def test_timers_are_had_once_and_stopped_at_exit(kernel: Kernel) -> None:
    """For the thread that is nudged; a signal at exit would end the process."""
    kernel.kernel_timers.equip()

    assert kernel.made == [(10, 77), (10, 77)]
    assert kernel.at_exit == [kernel.timer.stop, kernel.dump.stop]


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

    assert kernel.asked == [("timer", pytest.approx(5.002), 0.002), "dump stop"]


@pytest.mark.parametrize(
    ("acts_in", "stale_in", "rings", "looks_again_in"),
    [
        pytest.param(5.0, math.inf, (5.002, 0.002), 4.95, id="far off"),
        pytest.param(0.05, math.inf, (0.052, 0.002), math.inf, id="near"),
        pytest.param(0.04, 0.04, (0.042, 0.002), math.inf, id="near, of the one that has rung"),
        pytest.param(0.05, 0.04, (0.06, 0.02), math.inf, id="of one that has ended"),
        pytest.param(math.inf, 3.0, (3.02, 0.02), math.inf, id="of one that has ended alone"),
    ],
)
def test_at_the_instant_of_who_has_ended_the_thread_may_come_later(
    acts_in: float,
    stale_in: float,
    rings: tuple[float, float],
    looks_again_in: float,
    kernel: Kernel,
) -> None:
    """What still runs by then is not due. Shortly before it the thread looks which have ended."""
    looks_again_at = kernel.kernel_timers.set(START + acts_in, START + stale_in)

    assert kernel.asked[0] == ("timer", pytest.approx(rings[0]), rings[1])
    assert looks_again_at - START == pytest.approx(looks_again_in)


def test_nobody_is_sent_a_signal_that_has_been_taken_over(kernel: Kernel) -> None:
    """The timer stops."""
    kernel.nudge.is_ours = lambda: False

    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == ["timer stops", "dump stop"]


def test_a_dump_needs_no_timer(kernel: Kernel) -> None:
    """Where the kernel has none to give."""
    kernel.timer.available = False

    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == ["dump stop"]


def test_it_speaks_for_whose_time_comes_first(kernel: Kernel) -> None:
    """Of those that are not reported yet, whatever their order."""
    first, later, latest, reported = map(invocation, (10.0, 20.0, 30.0, 5.0))
    first.firing = firing(is_reported=False)
    reported.firing = firing(is_reported=True)

    kernel.kernel_timers.choose([later, first, latest, reported])
    kernel.kernel_timers.set(START)

    assert kernel.kernel_timers.dump_for is first
    assert kernel.asked[1] == ("dump", *times(10.0), True)


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
    assert kernel.asked[1:] == ["dump stop"]


def test_it_stays_ready_to_speak_for_those_that_come_and_go(kernel: Kernel) -> None:
    """An idle process: the dump are kept, and not open."""
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

    assert kernel.asked[-1] == "dump close"
    assert kernel.kernel_timers.dump_for is None


def test_an_end_takes_its_own_dump_back(kernel: Kernel) -> None:
    """No other thread's."""
    one, other = invocation(10.0), invocation(20.0)
    kernel.kernel_timers.choose([one, other])

    kernel.kernel_timers.ends(other)
    assert (kernel.asked, kernel.kernel_timers.dump_for) == ([], one)
    kernel.kernel_timers.ends(one)
    assert (kernel.asked[0], kernel.kernel_timers.dump_for) == ("dump close", None)


def test_a_thread_that_runs_speaks_for_itself(kernel: Kernel) -> None:
    """And faulthandler must not look at threads that run."""
    kernel.kernel_timers.rest()

    assert kernel.asked == ["dump stop"]


# ---- when the dump comes -----------------------------------------------------------------------


def test_a_watchdog_that_sleeps_is_overdue_halfway_between_grace_and_last_call(
    kernel: Kernel,
) -> None:
    """By processor time; and by the clock a quarter of last call before the end."""
    kernel.kernel_timers.choose([invocation(30.0)])

    kernel.kernel_timers.set(START)

    assert kernel.asked[1] == ("dump", 29.875, 28.25, True)


@pytest.mark.parametrize("now", [27.0, 28.25, 28.5, 29.75, 29.875])
def test_a_watchdog_that_acts_is_not_overdue(kernel: Kernel, now: float) -> None:
    """It sleeps for 10 ms only, and a cleanup may well compute for that long."""
    kernel.kernel_timers.choose([invocation(30.0)])
    kernel.clock.now = START + now

    kernel.kernel_timers.set(START + now)

    assert kernel.asked[1] == ("dump", 29.875 - now, 29.875 - now, True)


def test_with_little_time_nothing_is_dumped(kernel: Kernel) -> None:
    """The watchdog's own work can take as long, and threads that run are not to be looked at."""
    kernel.kernel_timers.choose([invocation(0.5)])

    kernel.kernel_timers.set(START)

    assert kernel.asked[1:] == ["dump stop"]


def test_the_time_of_the_dump_is_kept_for_those_that_come_and_go(kernel: Kernel) -> None:
    """Counted from the start of the one that it was chosen by."""
    kernel.kernel_timers.choose([invocation(30.0)])
    kernel.kernel_timers.keep()
    kernel.clock.now = START + 1.0

    kernel.kernel_timers.set(START + 1.0)

    assert kernel.asked[1] == ("dump", 28.875, 27.25, False)


@pytest.mark.parametrize(
    ("beside", "set_again", "rings"),
    [
        pytest.param(None, False, 8.0 + 7.5 + 0.02, id="alone"),
        pytest.param(None, True, 8.0 + 7.5 + 0.02, id="as the thread is about to sleep"),
        pytest.param(12.0, False, 9.0 + 0.02, id="beside one that is due before"),
    ],
)
def test_the_end_of_who_is_due_puts_the_nudge_off(
    kernel: Kernel, beside: float | None, rings: float, *, set_again: bool
) -> None:
    """To when the next one is due that begins now and has as much time, whoever that is."""
    one = invocation(10.0)
    one.due = START + 7.5
    timers, invocations = kernel.kernel_timers, [one]
    if beside is not None:
        invocations.append(invocation(beside))
        invocations[-1].due = START + beside * 0.75
    timers.choose(invocations)
    kernel.clock.now = START + 8.0

    one.is_open = False
    timers.ends(one)
    if set_again:
        timers.set(START + 8.01)

    [*_, last] = [asked for asked in kernel.asked if asked[0] == "timer"]  # type: ignore[index]
    assert last == ("timer", pytest.approx(rings - 8.0), 0.02)


def test_an_end_just_before_the_nudge_is_set_puts_it_off(kernel: Kernel) -> None:
    """The thread has looked, and its handler has not seen that the nudge is for it."""
    one = invocation(10.0)
    one.due = START + 7.5
    kernel.kernel_timers.choose([one])
    one.is_open = False

    kernel.kernel_timers.set(START + 7.5)

    assert kernel.asked[1] == ("timer", pytest.approx(7.52), 0.02)


def test_a_timeout_that_is_over_has_the_next_one_nudged_a_grace_period_before_its_end(
    kernel: Kernel,
) -> None:
    """Its own next step says nothing of that."""
    one = invocation(10.0)
    one.due = START + 8.3
    one.firing = SimpleNamespace(is_reported=False)  # type: ignore[assignment]
    kernel.kernel_timers.choose([one])
    one.is_open = False

    kernel.kernel_timers.ends(one)

    assert kernel.asked[-1] == ("timer", pytest.approx(7.52), 0.02)


@pytest.mark.parametrize("why", ["taken over", "none to be had"])
def test_what_cannot_be_nudged_is_not_put_off(kernel: Kernel, why: str) -> None:
    """The signal's new owner would get it."""
    kernel.nudge.is_ours = lambda: why != "taken over"
    kernel.timer.available = why != "none to be had"

    kernel.kernel_timers.put_off(START + 1.0)

    assert kernel.asked == []
