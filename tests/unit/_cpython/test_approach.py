"""How a thread is traced to a safe point: in which frame, for how long, and what is left."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import standing
from watchdog_lambda._cpython import bytecode, target_frames
from watchdog_lambda._cpython.approach import HURRY, PATIENCE, Approach
from watchdog_lambda._cpython.safe_points import CodePoints
from watchdog_lambda._cpython.target_frames import ANY, INSTALLED, OWN, WHEREVER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import CodeType, FrameType


class Due(BaseException):
    """The exception that lands."""


class RecordingApproach:
    """An approach for which this file is the user's own, and a record of what it asked."""

    def __init__(self, *, grace_period: float = 3.0) -> None:
        bytecode.preload()
        self.asked: list[str] = []
        self.is_due = True
        source: Any = SimpleNamespace(is_own=lambda file: file == __file__)
        self.taken = Approach(source, grace_period)

    def ask(self, frame: FrameType) -> BaseException | None:
        self.asked.append(frame.f_code.co_name)
        return Due() if self.is_due else None

    def begin(self, frame: FrameType) -> None:
        """Begin the approach if the frame is not safe, as a nudge's handler does."""
        if not self.taken.allows(frame, is_last_call=False):
            self.taken.begin(frame, self.ask)


@pytest.fixture
def way() -> Iterator[RecordingApproach]:
    one = RecordingApproach()
    yield one
    one.taken.stop()
    assert sys.gettrace() is None or sys.gettrace() is not one.taken._on_call


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the thread's fake processor time."""
    seconds = [10.0]
    monkeypatch.setattr(time, "thread_time", lambda: seconds[0])
    return seconds


# ---- which frame is traced ---------------------------------------------------------------------


@pytest.mark.untraced
def test_interrupt_lands_when_control_returns_to_user_frame(way: RecordingApproach) -> None:
    """The interrupt lands when control returns to the user's frame, after the call has ended."""
    done: list[int] = []

    def key(number: int) -> int:
        if number == 2:
            way.begin(sys._getframe().f_back.f_back)  # type: ignore[union-attr, arg-type]
        done.append(number)
        return number

    frames: list[FrameType] = []

    def handler() -> None:
        frames.append(sys._getframe())
        for number in range(9):
            key(number)
        done.append(-1)

    def caller() -> None:
        handler()

    with pytest.raises(Due):
        caller()

    # The nearest frame was caller(). Control returns to it only when handler() has ended.
    assert done == [*range(9), -1]
    assert way.asked == ["caller"]
    assert sys.gettrace() is None
    assert (frames[0].f_trace, frames[0].f_trace_opcodes) == (None, False)


@pytest.mark.untraced
def test_tracing_ends_with_the_frame(way: RecordingApproach) -> None:
    """When a traced frame ends, tracing ends as well, and the next nudge finds another frame."""

    def handler() -> None:
        frame = sys._getframe()
        way.is_due = False
        way.taken.begin(frame, way.ask)

    handler()

    assert sys.gettrace() is None
    assert way.taken._target is None


@pytest.mark.untraced
def test_tracing_ends_once_nothing_is_due(way: RecordingApproach) -> None:
    """Once the decision is not to land, tracing ends: a shield would run slowly if traced."""
    way.is_due = False

    def handler() -> int:
        way.begin(sys._getframe())
        return sum(n for n in range(5))

    assert handler() == 10
    assert len(way.asked) == 1
    assert sys.gettrace() is None


@pytest.mark.untraced
def test_existing_tracer_is_kept(way: RecordingApproach) -> None:
    """Where a tracer, such as a debugger, is active, nothing is traced and it stays in place."""

    def tracer(*_: object) -> None:
        return None

    sys.settrace(tracer)
    try:
        way.begin(sys._getframe())
        way.taken.stop()
        left = sys.gettrace()
    finally:
        sys.settrace(None)

    assert left is tracer
    assert way.asked == []


@pytest.mark.untraced
def test_target_under_a_loop_is_the_innermost_continuing_coroutine(
    way: RecordingApproach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under an event loop the target is the innermost coroutine that continues.

    It is not in the stack while another task runs.
    """
    nearest = way.taken.frames.nearest

    class Frames:
        is_within = way.taken.frames.is_within
        allows = way.taken.frames.allows
        note_handlers = way.taken.frames.note_handlers
        reading = 0.0

        def nearest(self, frame: FrameType, reach: int) -> tuple[FrameType | None, bool]:
            return (None, True) if frame.f_code.co_name == "loop" else nearest(frame, reach)

    monkeypatch.setattr(way.taken, "frames", Frames())

    class Pause:
        def __await__(self) -> Generator[None]:
            yield

    async def inner() -> None:
        await Pause()
        await Pause()

    async def outer() -> None:
        await inner()

    def loop() -> None:
        task = outer()
        task.send(None)
        way.begin(sys._getframe())
        task.send(None)

    with pytest.raises(Due):
        loop()

    assert way.asked == ["__await__"]
    assert sys.gettrace() is None


# ---- blocked threads, and running ones ---------------------------------------------------------


@pytest.mark.untraced
def test_frame_unmoved_between_nudges_stands_still(way: RecordingApproach) -> None:
    """A frame that has not moved between two nudges stands still: it is in one call.

    A frame of which an instruction has been traced does not stand still.
    """
    still: list[bool] = []

    def call(frame: FrameType) -> None:
        way.is_due = False
        still.append(way.taken.stands_still(frame, looked_blocked=False))
        way.begin(frame)
        still.append(way.taken.stands_still(frame, looked_blocked=False))

    def handler() -> None:
        frame = sys._getframe()
        call(frame)
        still.append(way.taken.stands_still(frame, looked_blocked=False))

    handler()

    assert still == [False, True, False]


def test_watchdog_look_counts_only_during_a_call() -> None:
    """The watchdog's look counts only where a call can be under way, not at a function's start."""
    bytecode.preload()
    one = RecordingApproach().taken
    begins: Any = SimpleNamespace(f_code=standing.__code__, f_lasti=0)

    assert one.stands_still(standing(), looked_blocked=True)
    assert not one.stands_still(standing(), looked_blocked=False)
    assert not one.stands_still(begins, looked_blocked=True)


# ---- how long a landing waits ------------------------------------------------------------------


@pytest.mark.parametrize(("grace_period", "patience"), [(3.0, PATIENCE), (0.25, 0.025)])
def test_more_frames_are_allowed_with_processor_time(
    grace_period: float, patience: float, cpu: list[float]
) -> None:
    """After more processor time installed libraries are allowed, and then the standard library.

    Nothing more is allowed before last call.
    """
    one = RecordingApproach(grace_period=grace_period).taken
    reached: list[int] = []
    for times in (0.0, 0.99, 1.01, 1.99, 2.01, 50.0):
        cpu[0] = 10.0 + times * patience
        assert not one.allows(standing(), is_last_call=False)
        reached.append(one._reach)

    assert reached == [OWN, OWN, INSTALLED, INSTALLED, ANY, ANY]
    one.restart()
    one.allows(standing(), is_last_call=False)
    assert one._reach == OWN


@pytest.mark.untraced
def test_interrupt_lands_in_any_frame_at_last_call(cpu: list[float]) -> None:
    """At last call the interrupt soon lands in any frame, except in an event loop's own code."""
    one = RecordingApproach().taken
    assert not one.allows(standing(), is_last_call=True)
    cpu[0] += 2.9 * PATIENCE / HURRY
    assert not one.allows(standing(), is_last_call=True)
    cpu[0] += 0.2 * PATIENCE / HURRY

    assert one.allows(standing(), is_last_call=True)
    assert one._reach == WHEREVER
    loops = SimpleNamespace(
        nearest=lambda *_: (None, True), note_handlers=lambda: None, reading=0.0
    )
    one.frames = loops  # type: ignore[assignment]
    assert not one.allows(standing(), is_last_call=True)


@pytest.mark.untraced
def test_patience_is_restored_beyond_the_hard_deadline(cpu: list[float]) -> None:
    """Beyond the hard deadline nothing kills, so the patience is as long as before last call.

    On a busy machine a late watchdog would otherwise cut code that enters a block.
    """
    one = RecordingApproach(grace_period=0.015).taken
    assert not one.allows(standing(), is_last_call=True, is_late=True)
    cpu[0] += 2.9 * PATIENCE
    assert not one.allows(standing(), is_last_call=True, is_late=True)
    cpu[0] += 0.2 * PATIENCE

    assert one.allows(standing(), is_last_call=True, is_late=True)


@pytest.mark.untraced
def test_time_to_read_code_is_not_counted(
    cpu: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to read a code object is not counted, as it is much of the shortest patience."""

    class Slow(CodePoints):
        def __init__(self, code: CodeType) -> None:
            cpu[0] += 9.0
            super().__init__(code)

    monkeypatch.setattr(target_frames, "CodePoints", Slow)
    one = RecordingApproach().taken
    one.allows(standing(), is_last_call=False)
    one.frames.allows(standing(), OWN)
    assert cpu == [19.0]

    one.allows(standing(), is_last_call=False)

    assert one._reach == OWN


@pytest.mark.untraced
def test_interrupt_under_foreign_tracer_lands_at_safe_point(
    cpu: list[float],
) -> None:
    """Under another tracer the interrupt lands where a nudge finds the target at a safe point.

    After the longest patience it lands in any frame.
    """
    one = RecordingApproach().taken

    def own() -> FrameType:
        return sys._getframe()

    def library(call: Callable[[], FrameType]) -> bool:
        return one.allows(call(), is_last_call=False)

    sys.settrace(lambda *_: None)
    try:
        met = [library(own), library(standing)]
        cpu[0] += 3.1 * PATIENCE
        met.append(library(standing))
    finally:
        sys.settrace(None)

    assert met == [True, False, True]
