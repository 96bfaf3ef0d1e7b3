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


class FakeStackDump:
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
def words(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStackDump]:
    made = FakeStackDump(monkeypatch)
    assert made.words.available
    yield made
    faulthandler.unregister(made.timers[CLOCK_MONOTONIC].number or 0)


def test_timers_are_set_by_clock_and_by_processor_time(words: FakeStackDump) -> None:
    """One timer is set by the clock and one by processor time, each for its own instant."""
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)

    assert (words.by_clock, words.by_cpu) == (DUMP_IN, OVERDUE_IN)


def test_only_cpu_timer_is_set_for_future_invocations(words: FakeStackDump) -> None:
    """For future invocations only the timer by processor time is set.

    A frozen sandbox uses no processor time.
    """
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=False)

    assert (words.by_clock, words.by_cpu) == (None, OVERDUE_IN)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_timer_is_set_after_its_time(
    words: FakeStackDump, seconds: float, *, is_open: bool
) -> None:
    """If the time has passed, no timer is set: the process was not killed, so no dump is needed."""
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    words.words.set(seconds, OVERDUE_IN, is_open=is_open)

    assert (words.by_clock, words.by_cpu) == (None, None)


def test_close_stops_the_clock_timer(words: FakeStackDump) -> None:
    """``close()`` stops the timer by the clock and keeps the other one for later invocations."""
    words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    words.words.close()

    assert words.by_clock is None
    assert words.by_cpu == OVERDUE_IN


def test_no_timer_is_set_if_the_signal_is_taken(words: FakeStackDump) -> None:
    """If another handler has taken the signal, no timer is set, as it would get the signal."""
    number = words.timers[CLOCK_MONOTONIC].number or 0
    before = signal.signal(number, lambda _s, _f: None)
    try:
        words.words.set(DUMP_IN, OVERDUE_IN, is_open=True)
    finally:
        signal.signal(number, before)

    assert words.by_clock is None
    assert words.by_cpu is None


def test_no_timer_is_set_if_the_signal_was_given_back(words: FakeStackDump) -> None:
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
def test_no_timer_is_used_if_one_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, clock: int
) -> None:
    """If either timer cannot be made, none is used."""

    class Timer(Untouchable):
        def __init__(self, number: int | None, native_id: int, its: int) -> None:
            super().__init__(number, native_id, its)
            self.available = its != clock

    monkeypatch.setattr(stack_dump, "ThreadTimer", Timer)

    assert silent(StackDumpTimer(signal.SIGURG, threading.get_native_id()))


def test_stack_dump_is_unavailable_without_faulthandler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without faulthandler, as in isolated sub-interpreters, there is no stack dump."""
    monkeypatch.setattr(stack_dump, "ThreadTimer", Untouchable)
    monkeypatch.setitem(sys.modules, "faulthandler", None)

    assert silent(StackDumpTimer(signal.SIGURG, threading.get_native_id()))


def test_stack_dump_is_unavailable_without_a_free_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all signals are in use, there is no stack dump."""
    monkeypatch.setattr(stack_dump, "ThreadTimer", Untouchable)
    monkeypatch.setattr(
        "watchdog_lambda._cpython.stack_dump.signal.getsignal", lambda _number: signal.SIG_IGN
    )

    assert spare_signal(None) is None
    assert silent(StackDumpTimer(signal.SIGURG, threading.get_native_id()))


def test_spare_signal_is_the_highest_unused(
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
