"""What the kernel's timers are set to while the thread sleeps, and for which invocation."""

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
    """A timer, a stack dump and atexit that only record the calls."""

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
    """Return timers that are equipped at 1000 s."""
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
    """Return in how many seconds an invocation's dump comes, and when the watchdog is overdue."""
    grace = min(3.0, seconds / 4)
    last_call = min(0.5, grace / 4)
    dump_at = seconds - last_call / 4
    overdue_at = seconds - (grace + last_call) / 2
    return dump_at - now, (overdue_at if now < seconds - grace else dump_at) - now


def firing(*, is_reported: bool) -> Any:
    return SimpleNamespace(is_reported=is_reported)


def test_timers_are_made_once_and_stopped_at_exit(kernel: Kernel) -> None:
    """Timers are made once, for the nudged thread, and stopped at exit.

    A signal at exit would end the process.
    """
    kernel.kernel_timers.equip()

    assert kernel.made == [(10, 77), (10, 77)]
    assert kernel.at_exit == [kernel.timer.stop, kernel.dump.stop]


def test_calls_before_equip_do_nothing() -> None:
    """Without equipment, when there is no main thread to nudge yet, every call does nothing."""
    kernel_timers = KernelTimers(FakeClock(), SimpleNamespace())  # type: ignore[arg-type]
    one = invocation(10.0)
    kernel_timers.choose([one])

    kernel_timers.set(START)
    kernel_timers.rest()
    kernel_timers.ends(one)

    assert kernel_timers.dump_for is None


def test_forked_child_sets_no_timers(kernel: Kernel) -> None:
    """A child of fork sets no timers, because the kernel does not pass them on."""
    kernel.kernel_timers.choose([invocation(10.0)])

    kernel.kernel_timers.forget()
    kernel.kernel_timers.set(START)
    kernel.kernel_timers.rest()

    assert kernel.kernel_timers.dump_for is None
    assert kernel.asked == []


def test_timer_rings_shortly_after_the_thread_should_wake(kernel: Kernel) -> None:
    """The timer rings 2 ms after the thread should have woken, and then every 2 ms."""
    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == [("timer", pytest.approx(5.002), 0.002), "dump stop"]


@pytest.mark.parametrize(
    ("acts_in", "stale_in", "rings_in", "looks_again_in"),
    [
        pytest.param(5.0, math.inf, 5.002, 4.95, id="far off"),
        pytest.param(0.05, math.inf, 0.052, math.inf, id="near"),
        pytest.param(0.05, 0.04, 0.042, math.inf, id="a later invocation may be due earlier"),
        pytest.param(math.inf, 3.0, 3.002, math.inf, id="only a later invocation may be due"),
    ],
)
def test_timer_is_set_for_the_first_invocation_that_may_be_due(
    acts_in: float, stale_in: float, rings_in: float, looks_again_in: float, kernel: Kernel
) -> None:
    """The timer rings for an invocation that has not begun yet, too, if it may be due first.

    Shortly before an act the thread looks again which invocations have ended.
    """
    looks_again_at = kernel.kernel_timers.set(START + acts_in, START + stale_in)

    assert kernel.asked[0] == ("timer", pytest.approx(rings_in), 0.002)
    assert looks_again_at - START == pytest.approx(looks_again_in)


def test_timer_is_stopped_if_the_signal_was_taken_over(kernel: Kernel) -> None:
    """If the nudge's signal was taken over, the timer is stopped instead of set."""
    kernel.nudge.is_ours = lambda: False

    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == ["timer stops", "dump stop"]


def test_dump_works_without_a_kernel_timer(kernel: Kernel) -> None:
    """Where the kernel provides no timer, only the dump's timer is handled."""
    kernel.timer.available = False

    kernel.kernel_timers.set(START + 5.0)

    assert kernel.asked == ["dump stop"]


def test_dump_is_set_for_the_earliest_unreported_invocation(kernel: Kernel) -> None:
    """The dump is set for the unreported invocation whose time comes first, in any order."""
    first, later, latest, reported = map(invocation, (10.0, 20.0, 30.0, 5.0))
    first.firing = firing(is_reported=False)
    reported.firing = firing(is_reported=True)

    kernel.kernel_timers.choose([later, first, latest, reported])
    kernel.kernel_timers.set(START)

    assert kernel.kernel_timers.dump_for is first
    assert kernel.asked[1] == ("dump", *times(10.0), True)


def test_first_of_equal_invocations_is_chosen(kernel: Kernel) -> None:
    """Of two equal invocations the first is chosen, so that every look chooses the same one."""
    one, other = invocation(10.0), invocation(10.0)

    kernel.kernel_timers.choose([one, other])

    assert kernel.kernel_timers.dump_for is one


def test_dump_is_stopped_without_invocations(kernel: Kernel) -> None:
    """The dump is stopped when all invocations have ended or been reported."""
    kernel.kernel_timers.choose([invocation(10.0)])

    kernel.kernel_timers.choose([])
    kernel.kernel_timers.set(START)

    assert kernel.kernel_timers.dump_for is None
    assert kernel.asked[1:] == ["dump stop"]


def test_dump_timer_stays_set_in_idle_process(kernel: Kernel) -> None:
    """In an idle process the dump's timer stays set, but is not open for any invocation."""
    kernel.kernel_timers.choose([invocation(10.0)])

    kernel.kernel_timers.keep()
    kernel.kernel_timers.set(START)

    assert kernel.kernel_timers.dump_for is None
    assert kernel.asked[1][-1] is False  # type: ignore[index]
    assert len(kernel.asked) == 2


def test_dump_is_closed_if_the_chosen_invocation_has_ended(kernel: Kernel) -> None:
    """If the chosen invocation ends before the dump is set, the dump is closed again."""
    one = invocation(10.0)
    kernel.kernel_timers.choose([one])
    one.is_open = False

    kernel.kernel_timers.set(START)

    assert kernel.asked[-1] == "dump close"
    assert kernel.kernel_timers.dump_for is None


def test_end_closes_only_its_own_dump(kernel: Kernel) -> None:
    """The end of an invocation closes the dump that is set for it, and no other."""
    one, other = invocation(10.0), invocation(20.0)
    kernel.kernel_timers.choose([one, other])

    kernel.kernel_timers.ends(other)
    assert (kernel.asked, kernel.kernel_timers.dump_for) == ([], one)
    kernel.kernel_timers.ends(one)
    assert (kernel.asked[0], kernel.kernel_timers.dump_for) == ("dump close", None)


def test_dump_is_stopped_while_the_watchdog_runs(kernel: Kernel) -> None:
    """While the watchdog's thread runs, the dump is stopped.

    It reports by itself, and faulthandler must not read the stacks of running threads.
    """
    kernel.kernel_timers.rest()

    assert kernel.asked == ["dump stop"]


# ---- when the dump comes -----------------------------------------------------------------------


def test_sleeping_watchdog_is_overdue_between_grace_and_last_call(
    kernel: Kernel,
) -> None:
    """The dump comes halfway between grace and last call by processor time.

    By the clock it comes a quarter of last call's time before the end.
    """
    kernel.kernel_timers.choose([invocation(30.0)])

    kernel.kernel_timers.set(START)

    assert kernel.asked[1] == ("dump", 29.875, 28.25, True)


@pytest.mark.parametrize("now", [27.0, 28.25, 28.5, 29.75, 29.875])
def test_acting_watchdog_is_not_overdue(kernel: Kernel, now: float) -> None:
    """While the watchdog acts, the dump is set for a quarter of last call before the end.

    The watchdog sleeps for 10 ms only, and a cleanup may well compute for that long.
    """
    kernel.kernel_timers.choose([invocation(30.0)])
    kernel.clock.now = START + now

    kernel.kernel_timers.set(START + now)

    assert kernel.asked[1] == ("dump", 29.875 - now, 29.875 - now, True)


def test_no_dump_is_set_for_a_short_timeout(kernel: Kernel) -> None:
    """No dump is set for a timeout of half a second.

    The watchdog's own work can take as long, and running threads must not be read.
    """
    kernel.kernel_timers.choose([invocation(0.5)])

    kernel.kernel_timers.set(START)

    assert kernel.asked[1:] == ["dump stop"]


def test_dump_time_is_kept_in_idle_process(kernel: Kernel) -> None:
    """In an idle process the dump keeps its time, counted from the chosen invocation's start."""
    kernel.kernel_timers.choose([invocation(30.0)])
    kernel.kernel_timers.keep()
    kernel.clock.now = START + 1.0

    kernel.kernel_timers.set(START + 1.0)

    assert kernel.asked[1] == ("dump", 28.875, 27.25, False)


@pytest.mark.parametrize(
    ("beside", "set_again", "rings"),
    [
        pytest.param(None, False, 8.0 + 7.5 + 0.002, id="alone"),
        pytest.param(None, True, 8.0 + 7.5 + 0.002, id="set again before the thread sleeps"),
        pytest.param(12.0, False, 9.0 + 0.002, id="beside an earlier invocation"),
    ],
)
def test_end_of_due_invocation_defers_the_nudge(
    kernel: Kernel, beside: float | None, rings: float, *, set_again: bool
) -> None:
    """When the due invocation ends, the nudge moves to the next one that can be due.

    That is an invocation that begins now and has as much time, or another that runs.
    """
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
    assert last == ("timer", pytest.approx(rings - 8.0), 0.002)


def test_end_just_before_setting_defers_the_nudge(kernel: Kernel) -> None:
    """If an invocation ends between the look and the setting, the nudge is put off as well."""
    one = invocation(10.0)
    one.due = START + 7.5
    kernel.kernel_timers.choose([one])
    one.is_open = False

    kernel.kernel_timers.set(START + 7.5)

    assert kernel.asked[1] == ("timer", pytest.approx(7.502), 0.002)


def test_nudge_for_unseen_invocation_counts_from_the_look(kernel: Kernel) -> None:
    """The nudge for the next invocation counts from the look that still saw the last one.

    The thread has looked; the last one ends; C code in the next one holds the GIL until it is due,
    and only then the thread chooses, and sets the timers. A nudge that counts from then comes too
    late by the whole time that an invocation has.
    """
    one = invocation(10.0)
    one.due = START + 7.5
    one.is_open = False
    kernel.clock.now = START + 7.4

    kernel.kernel_timers.choose([one], START)
    kernel.kernel_timers.set(START + 7.5)

    assert kernel.asked[1] == ("timer", pytest.approx(0.102), 0.002)


def test_end_of_timeout_moves_the_nudge_to_the_next_grace_period(
    kernel: Kernel,
) -> None:
    """The end of a timeout moves the nudge to the next invocation's grace period.

    The firing's own next step is not that time.
    """
    one = invocation(10.0)
    one.due = START + 8.3
    one.firing = SimpleNamespace(is_reported=False)  # type: ignore[assignment]
    kernel.kernel_timers.choose([one])
    one.is_open = False

    kernel.kernel_timers.ends(one)

    assert kernel.asked[-1] == ("timer", pytest.approx(7.502), 0.002)


def test_timer_rings_less_often_without_invocations(kernel: Kernel) -> None:
    """It is not stopped: an invocation that begins before the thread looks relies on it."""
    kernel.kernel_timers.put_off(math.inf)

    assert kernel.asked == [("timer", 0.02, 0.02)]


@pytest.mark.parametrize("why", ["taken over", "unavailable"])
def test_nothing_is_deferred_without_a_usable_timer(kernel: Kernel, why: str) -> None:
    """Without a timer, or if the signal was taken over, nothing is put off.

    The signal's new owner would receive it.
    """
    kernel.nudge.is_ours = lambda: why != "taken over"
    kernel.timer.available = why != "unavailable"

    kernel.kernel_timers.put_off(START + 1.0)

    assert kernel.asked == []
