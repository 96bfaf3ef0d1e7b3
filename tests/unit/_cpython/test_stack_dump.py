"""When the timers for faulthandler's stack dump are set, and where there are none."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from watchdog_lambda._cpython import stack_dump
from watchdog_lambda._cpython.stack_dump import StackDumpTimer, spare_signal
from watchdog_lambda._cpython.timers import CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME

if TYPE_CHECKING:
    from collections.abc import Iterator

DUMP_IN, OVERDUE_IN = 29.875, 28.25


class KernelTimer:
    """Stands in for a kernel timer: it keeps its setting and never rings."""

    available = True

    def __init__(self, number: int | None, native_id: int, clock: int) -> None:
        del native_id
        self.clock = clock
        self.number = number
        self.seconds: float | None = None

    def set(self, seconds: float, interval: float) -> None:
        assert interval == 0.0
        self.seconds = seconds

    def stop(self) -> None:
        self.seconds = None


class Words:
    """A stack dump whose timers do not ring."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timers: dict[int, KernelTimer] = {}

        def make(number: int | None, native_id: int, clock: int) -> KernelTimer:
            timer = self.timers[clock] = KernelTimer(number, native_id, clock)
            return timer

        monkeypatch.setattr(stack_dump, "ThreadTimer", make)
        # Not the signal of the process's own dump, which the test would unregister at its end.
        monkeypatch.setattr(stack_dump, "spare_signal", lambda _nudge: signal.SIGRTMAX - 9)
        self.words = StackDumpTimer(signal.SIGURG, threading.get_native_id())

    @property
    def by_clock(self) -> float | None:
        return self.timers[CLOCK_MONOTONIC].seconds

    @property
    def by_cpu(self) -> float | None:
        return self.timers[CLOCK_THREAD_CPUTIME].seconds


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Iterator[Words]:
    made = Words(monkeypatch)
    assert made.words.available
    yield made
    faulthandler.unregister(made.timers[CLOCK_MONOTONIC].number or 0)


def test_one_timer_rings_by_the_clock_and_one_by_processor_time(words: Words) -> None:
    """One timer is set by the clock and one by processor time, each for its own instant."""
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)

    assert (words.by_clock, words.by_cpu) == (DUMP_IN, OVERDUE_IN)


def test_for_the_invocations_to_come_only_processor_time_counts(words: Words) -> None:
    """For future invocations only the timer by processor time is set.

    A frozen sandbox uses no processor time.
    """
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=False)

    assert (words.by_clock, words.by_cpu) == (None, OVERDUE_IN)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_past_its_time_nothing_is_set(words: Words, seconds: float, *, is_open: bool) -> None:
    """If the time has passed, no timer is set: the process was not killed, so no dump is needed."""
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    words.words.set(seconds, OVERDUE_IN, is_open=is_open)

    assert (words.by_clock, words.by_cpu) == (None, None)


def test_an_end_takes_back_the_one_by_the_clock(words: Words) -> None:
    """``close()`` stops the timer by the clock and keeps the other one for later invocations."""
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    words.words.close()

    assert words.by_clock is None
    assert words.by_cpu == OVERDUE_IN


def test_a_signal_that_somebody_has_taken_is_theirs(words: Words) -> None:
    """If another handler has taken the signal, no timer is set, as it would get the signal."""
    number = words.timers[CLOCK_MONOTONIC].number or 0
    before = signal.signal(number, lambda _s, _f: None)
    try:
        words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    finally:
        signal.signal(number, before)

    assert words.by_clock is None
    assert words.by_cpu is None


def test_a_signal_that_was_taken_and_given_back_ends_nobody(words: Words) -> None:
    """A signal that was taken and given back is not used, because it would end the process.

    Python reports SIG_DFL all the time, but only now is it the kernel's action.
    """
    number = words.timers[CLOCK_MONOTONIC].number or 0
    signal.signal(number, signal.signal(number, signal.SIG_IGN))
    assert signal.getsignal(number) is signal.SIG_DFL

    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)

    assert words.by_clock is None
    assert words.by_cpu is None


# ---- where the timers are not available --------------------------------------------------------


class Untouchable(KernelTimer):
    """A timer on which neither ``set`` nor ``stop`` may be called."""

    set = stop = None  # type: ignore[assignment]


def silent(words: StackDumpTimer) -> bool:
    """Call each method, and return whether the stack dump is unavailable."""
    words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    words.close()
    words.stop()
    return not words.available


@pytest.mark.parametrize("clock", [CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME])
def test_without_one_of_the_timers_there_are_none(
    monkeypatch: pytest.MonkeyPatch, clock: int
) -> None:
    """If either timer cannot be made, none is used."""

    class Timer(Untouchable):
        def __init__(self, number: int | None, native_id: int, its: int) -> None:
            super().__init__(number, native_id, its)
            self.available = its != clock

    monkeypatch.setattr(stack_dump, "ThreadTimer", Timer)

    assert silent(StackDumpTimer(signal.SIGURG, threading.get_native_id()))


def test_without_faulthandler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without faulthandler, as in isolated sub-interpreters, there is no stack dump."""
    monkeypatch.setattr(stack_dump, "ThreadTimer", Untouchable)
    monkeypatch.setitem(sys.modules, "faulthandler", None)

    assert silent(StackDumpTimer(signal.SIGURG, threading.get_native_id()))


def test_without_a_signal_to_spare_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all signals are in use, there is no stack dump."""
    monkeypatch.setattr(stack_dump, "ThreadTimer", Untouchable)
    monkeypatch.setattr(
        "watchdog_lambda._cpython.stack_dump.signal.getsignal", lambda _number: signal.SIG_IGN
    )

    assert spare_signal(None) is None
    assert silent(StackDumpTimer(signal.SIGURG, threading.get_native_id()))


def test_the_signal_to_spare_is_the_highest_that_nobody_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The spare signal is the highest one that is neither used nor the nudge's."""
    top = signal.SIGRTMAX
    # The signals only appear used. Taking one and putting back what Python knows of it would remove
    # faulthandler's handler for the process's own watchdog, and a ring would end the process.
    used: set[int] = set()
    monkeypatch.setattr(
        "watchdog_lambda._cpython.stack_dump.signal.getsignal",
        lambda number: int(signal.SIG_IGN if number in used else signal.SIG_DFL),
    )
    assert spare_signal(None) == top
    assert spare_signal(top) == top - 1
    used.add(top)
    assert spare_signal(None) == top - 1
