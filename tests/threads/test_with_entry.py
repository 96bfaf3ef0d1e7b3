"""Interrupts while a ``with`` is entered: its resource is always released.

Up to CPython 3.13 entering is one instruction. On 3.14 it is a call, and an exception that is
raised right after it leaves the block's resource taken for good (gh-148874).
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import BOUND, Context, eventually, plan
from tests.threads.gates import Gate, GatedInjector, SilentNudge, parts
from watchdog_lambda import LambdaTimeout
from watchdog_lambda._cpython.target_frames import TargetFrames
from watchdog_lambda._handler import guard
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SHORT: Final = 0.04
"""The time in seconds of an invocation that fires soon."""

ROUNDS: Final = 20


def nudged() -> Callable[[], object]:
    """Return a C function that nudges the main thread, and does not look at signals itself.

    :func:`signal.raise_signal` would look at them.
    """
    assert process_watchdog.nudge.number is not None
    return functools.partial(ctypes.CDLL(None)["raise"], process_watchdog.nudge.number)


@pytest.mark.untraced
def test_nudge_during_with_entry_lands_in_the_block() -> None:
    """A nudge that arrives in ``__enter__`` of C code lands in the block, which is then left.

    Python looks at the signal right after the call.
    """
    gate = Gate()
    exits: list[type[BaseException] | None] = []

    class Resource:
        def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
            exits.append(kind)

    def handler(event: str, _context: object) -> None:
        if event == "ok":
            return
        assert gate.passed.wait(BOUND)
        with Resource():  # type: ignore[attr-defined]
            for _ in range(1000):
                pass

    watched = guard(handler, plan(grace_period=0.01))
    watched("ok", Context(60.0))
    Resource.__enter__ = staticmethod(nudged())  # type: ignore[attr-defined]

    with parts(nudge=SilentNudge(gate)), pytest.raises(LambdaTimeout):
        watched("race", Context(SHORT))

    assert exits == [LambdaTimeout]


@pytest.mark.untraced
def test_interrupted_with_lock_loop_releases_the_lock() -> None:
    """Wherever a loop of ``with lock`` is interrupted, the lock is free afterwards.

    A third of the places where signals are looked at enter or leave the block.
    """
    lock = threading.Lock()

    def handler(_event: object, _context: object) -> None:
        while True:
            with lock:
                pass

    watched = guard(handler, plan())
    for _ in range(ROUNDS):
        with pytest.raises(LambdaTimeout):
            watched({}, Context(SHORT))
        assert not lock.locked()


@pytest.mark.untraced
def test_handler_waiting_for_lock_in_with_is_interrupted() -> None:
    """A handler that waits for a lock in a ``with`` is interrupted.

    It is at the same instruction as one that has just got the lock.
    """
    lock = threading.Lock()

    def handler(_event: object, _context: object) -> None:
        with lock:
            pass

    with lock, pytest.raises(LambdaTimeout):
        guard(handler, plan(grace_period=0.1))({}, Context(0.4))

    assert not lock.locked()


@pytest.mark.untraced
@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="up to 3.13 a single instruction enters a with"
)
def test_injection_waits_for_with_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An injection waits while a thread enters a ``with``.

    It could not end the wait for the lock, and would land after that and before the block.
    """
    lock = threading.Lock()
    lock.acquire()
    outcome: list[object] = []
    looks: list[bool] = []

    allows = TargetFrames.allows_from_afar

    def counted(frames: TargetFrames, frame: FrameType) -> bool | None:
        allowed = allows(frames, frame)
        looks.append(allowed is None)
        return allowed

    def handler(_event: object, _context: object) -> None:
        with lock:
            for _ in ticks():
                pass

    def work() -> None:
        try:
            outcome.append(guard(handler, plan(grace_period=0.4))({}, Context(0.8)))
        except LambdaTimeout as error:
            outcome.append(error)

    gate = Gate()
    gate.open()
    monkeypatch.setattr(TargetFrames, "allows_from_afar", counted)
    with parts(injector=GatedInjector(gate)):
        worker = threading.Thread(target=work)
        worker.start()
        try:
            # Wait longer than the 40 ms for which a fragile frame defers an injection.
            eventually(
                lambda: looks.count(True) > 8, "the watchdog to look at a thread that enters a with"
            )
            assert not gate.passed.is_set(), "injected"
        finally:
            lock.release()
            worker.join(BOUND)

    assert [type(each) for each in outcome] == [LambdaTimeout]
    assert not lock.locked()


def ticks() -> Iterator[Any]:
    """Yield forever, with check points."""
    while True:
        yield None
