"""The nudge's signal and its handler, and injection."""

from __future__ import annotations

import signal
import sys
import threading
import time
from _thread import get_ident, get_native_id
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, eventually
from watchdog_lambda import _cpython
from watchdog_lambda._cpython.delivery import Injector, Nudge

if TYPE_CHECKING:
    from types import FrameType


class Signals:
    """Stands in for the process's signal handlers."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.refusal: Exception | None = None
        self.sent: list[tuple[int, int]] = []

    def get(self, number: int) -> Any:
        return self.handlers.get(number, int(signal.SIG_DFL))

    def set(self, number: int, handler: object) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.handlers[number] = handler

    def kill(self, thread_id: int, number: int) -> None:
        self.sent.append((thread_id, number))


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Signals:
    signals = Signals()
    monkeypatch.setattr("watchdog_lambda._cpython.delivery.signal.getsignal", signals.get)
    monkeypatch.setattr("watchdog_lambda._cpython.delivery.signal.signal", signals.set)
    monkeypatch.setattr("watchdog_lambda._cpython.delivery.signal.pthread_kill", signals.kill)
    return signals


def nothing_is_due(_frame: FrameType | None) -> None:
    """Decide that nothing lands."""


# ---- the signal --------------------------------------------------------------------------------


def test_auto_takes_the_first_unused_signal(signals: Signals) -> None:
    """The first unused signal is taken: SIGURG, and then the real-time signals."""
    first, second = Nudge(nothing_is_due), Nudge(nothing_is_due)

    first.install("auto")
    second.install("auto")

    assert (first.number, first.refusal) == (signal.SIGURG, None)
    assert (second.number, second.refusal) == (signal.SIGRTMIN, None)
    assert signals.handlers == {
        signal.SIGURG: first._handler,
        signal.SIGRTMIN: second._handler,
    }
    assert first.native_id == get_native_id()


def test_ignored_signal_counts_as_used(signals: Signals) -> None:
    """An ignored signal counts as used; when all candidates are used, the refusal says so."""
    taken = [signal.SIGURG, *range(signal.SIGRTMIN, signal.SIGRTMAX)]
    signals.handlers.update(dict.fromkeys(taken, signal.SIG_IGN))
    last, none = Nudge(nothing_is_due), Nudge(nothing_is_due)

    last.install("auto")
    none.install("auto")

    assert last.number == signal.SIGRTMAX
    assert (none.number, none.refusal) == (None, "every usable signal is in use")


def test_only_the_chosen_signal_is_tried(signals: Signals) -> None:
    """A signal that the user has chosen is taken or refused, and no other one is tried."""
    first, second = Nudge(nothing_is_due), Nudge(nothing_is_due)

    first.install(signal.SIGUSR1)
    second.install(signal.SIGUSR1)

    assert first.number == signal.SIGUSR1
    assert (second.number, second.refusal) == (None, f"signal {signal.SIGUSR1:d} is in use")


def test_none_installs_no_handler(signals: Signals) -> None:
    """With no signal wanted, no handler is installed and nothing is sent."""
    nudge = Nudge(nothing_is_due)

    nudge.install(None)
    nudge.send()

    assert (nudge.number, nudge.refusal) == (None, "WAKE_SIGNAL is none")
    assert (signals.handlers, signals.sent) == ({}, [])


@pytest.mark.parametrize("error", [ValueError("signal only works in main thread"), OSError("no")])
def test_refusal_is_kept_until_an_attempt_succeeds(error: Exception, signals: Signals) -> None:
    """A refusal is remembered until an attempt succeeds.

    Off the main thread every signal is refused alike.
    """
    nudge = Nudge(nothing_is_due)
    signals.refusal = error

    nudge.install("auto")
    refused = nudge.number, nudge.refusal, nudge.reaches(get_ident())
    signals.refusal = None
    nudge.install("auto")

    assert refused == (None, str(error), False)
    assert (nudge.number, nudge.refusal) == (signal.SIGURG, None)


def test_nudge_reaches_only_the_installing_thread(signals: Signals) -> None:
    """The nudge reaches only the thread that installed it, until another handler replaces it."""
    nudge = Nudge(nothing_is_due)
    before = nudge.is_ours()
    assert nudge.refusal is None, "there was no attempt yet"
    nudge.install("auto")
    nudge.send()

    assert (before, nudge.is_ours()) == (False, True)
    assert nudge.reaches(get_ident())
    assert not nudge.reaches(get_ident() + 1)
    assert signals.sent == [(get_ident(), signal.SIGURG)]
    signals.handlers[signal.SIGURG] = signal.SIG_IGN
    assert not nudge.is_ours()
    assert not nudge.reaches(get_ident())


# ---- its handler -------------------------------------------------------------------------------


def test_signal_handler_raises_the_decision() -> None:
    """The handler raises what is decided for the interrupted frame, or nothing."""
    frames: list[FrameType | None] = []
    error = KeyError("due")
    frame = sys._getframe()

    def due(asked: FrameType | None) -> BaseException:
        frames.append(asked)
        return error

    Nudge(nothing_is_due)._handler(0, frame)
    with pytest.raises(KeyError) as caught:
        Nudge(due)._handler(0, frame)

    assert caught.value is error
    assert frames == [frame]


def test_recursion_error_in_decision_is_not_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A RecursionError in the decision is not raised in the handler, which has not caused it.

    The signal handler pauses instead, so that the watchdog can raise the limit.
    """
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    def decide(_frame: FrameType | None) -> BaseException | None:
        raise RecursionError

    nudge = Nudge(decide)
    nudge._handler(0, None)

    assert (len(pauses), nudge.heard) == (1, 1)


def test_recursion_error_in_pause_is_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one in the pause: a nudge that comes in it may not even get its first frame."""

    def sleep(_seconds: float) -> None:
        raise RecursionError

    def decide(_frame: FrameType | None) -> BaseException | None:
        raise RecursionError

    monkeypatch.setattr(time, "sleep", sleep)
    nudge = Nudge(decide)
    nudge._handler(0, None)

    assert nudge.heard == 1


# ---- injection ---------------------------------------------------------------------------------


class Blocked:
    """A thread that is blocked in C, where an injected exception cannot land yet."""

    def __init__(self) -> None:
        self.caught: list[BaseException] = []
        self._lock = threading.Lock()
        self._lock.acquire()
        self._blocks = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._blocks.wait(BOUND)

    @property
    def ident(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def _run(self) -> None:
        try:
            self._blocks.set()
            self._lock.acquire(timeout=BOUND)
            for _ in range(1000):
                pass
        except BaseException as error:
            self.caught.append(error)

    def end(self) -> list[BaseException]:
        self._lock.release()
        self._thread.join(BOUND)
        return self.caught


@pytest.mark.untraced  # an exception that lands in coverage's frames leaves its lock taken
def test_injection_lands_unless_withdrawn() -> None:
    """An injected exception lands unless it is withdrawn; an ended thread is not reached."""
    injector = Injector()
    injector.preload()
    injector.preload()
    landing, withdrawn = Blocked(), Blocked()

    reached = [injector.inject(thread.ident, KeyError) for thread in (landing, withdrawn)]
    injector.withdraw(withdrawn.ident)
    injector.withdraw(withdrawn.ident)

    assert [type(error) for error in landing.end()] == [KeyError]
    assert withdrawn.end() == []
    assert reached == [True, True]
    eventually(lambda: not injector.inject(landing.ident, KeyError), "the thread to end")


def test_withdrawal_passes_null() -> None:
    """A withdrawal passes NULL: None would be injected as an object that is no exception."""
    injector = Injector()
    asked: list[tuple[int, None]] = []
    injector._withdraw = lambda *given: len(asked.append(given) or asked)  # type: ignore[func-returns-value]

    injector.withdraw(77)

    assert asked == [(77, None)]


def test_injection_is_unavailable_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ctypes, as in isolated sub-interpreters, injection is not available."""
    injector = Injector()
    before = injector.available
    monkeypatch.delitem(sys.modules, "watchdog_lambda._cpython.libc", raising=False)
    monkeypatch.delattr(_cpython, "libc", raising=False)
    monkeypatch.setitem(sys.modules, "_ctypes", None)

    injector.preload()
    without = injector.available
    monkeypatch.undo()
    injector.preload()

    assert (before, without, injector.available) == (False, False, True)
