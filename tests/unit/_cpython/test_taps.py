"""Having a thread decide at its next instruction, with a stand-in for ``sys.monitoring``."""

from __future__ import annotations

import sys
import threading
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND
from watchdog_lambda._cpython import taps
from watchdog_lambda._cpython.taps import HEARING, NAME, TOOLS, Tap

if TYPE_CHECKING:
    from types import CodeType, FrameType

INSTRUCTION = 1 << 6
OTHER = -7
"""The id of a thread that does not exist."""


class Monitoring:
    """Stands in for ``sys.monitoring``."""

    events = SimpleNamespace(INSTRUCTION=INSTRUCTION)

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.callbacks: dict[int, Any] = {}
        self.local: dict[CodeType, tuple[int, int]] = {}
        self.were_set: list[int] = []
        self.meanwhile: Any = None

    def get_tool(self, tool: int) -> str | None:
        return self.names.get(tool)

    def use_tool_id(self, tool: int, name: str) -> None:
        assert tool not in self.names
        self.names[tool] = name

    def register_callback(self, tool: int, event: int, callback: Any) -> None:
        assert event == INSTRUCTION
        self.callbacks[tool] = callback

    def set_local_events(self, tool: int, code: CodeType, events: int) -> None:
        if events and self.meanwhile is not None:
            self.meanwhile()
        self.local[code] = tool, events
        self.were_set.append(events)


@pytest.fixture
def monitoring(monkeypatch: pytest.MonkeyPatch) -> Monitoring:
    monitoring = Monitoring()
    monkeypatch.setattr(taps, "_monitoring", monitoring)
    return monitoring


class Scene:
    """A tap, and the decision that its thread will make."""

    def __init__(self) -> None:
        self.asked: list[FrameType | None] = []
        self.error: BaseException | None = None
        self.tap = Tap(self._decide)

    def _decide(self, frame: FrameType | None) -> BaseException | None:
        self.asked.append(frame)
        return self.error


@pytest.fixture
def scene(monitoring: Monitoring) -> Scene:
    assert not monitoring.names
    return Scene()


def here() -> FrameType:
    return sys._getframe()


def there() -> FrameType:
    return sys._getframe()


def test_tapped_thread_decides_at_its_next_instruction(
    scene: Scene, monitoring: Monitoring
) -> None:
    """A tapped thread decides once, at its next instruction, after the events are off again."""
    frame = here()
    assert scene.tap.send(get_ident(), frame, 10.0)
    assert monitoring.local[frame.f_code] == (TOOLS[0], INSTRUCTION)
    assert monitoring.names == {TOOLS[0]: NAME}

    monitoring.callbacks[TOOLS[0]](frame.f_code, 0)

    assert monitoring.local[frame.f_code] == (TOOLS[0], 0)
    assert scene.asked == [sys._getframe()]
    monitoring.callbacks[TOOLS[0]](frame.f_code, 0)
    assert len(scene.asked) == 1


def test_decided_interrupt_is_raised_at_the_instruction(
    scene: Scene, monitoring: Monitoring
) -> None:
    """The interrupt that is decided is raised at the instruction."""
    scene.error = TimeoutError("decided")
    scene.tap.send(get_ident(), here(), 10.0)

    with pytest.raises(TimeoutError, match="decided"):
        monitoring.callbacks[TOOLS[0]](here().f_code, 0)


def test_other_thread_in_same_code_does_not_decide(scene: Scene, monitoring: Monitoring) -> None:
    """Another thread in the same code does not decide, and the tap stays."""
    frame = here()
    scene.tap.send(OTHER, frame, 10.0)

    monitoring.callbacks[TOOLS[0]](frame.f_code, 0)

    assert scene.asked == []
    assert monitoring.local[frame.f_code] == (TOOLS[0], INSTRUCTION)


def test_two_tapped_threads_in_same_code_both_decide(scene: Scene, monitoring: Monitoring) -> None:
    """Two tapped threads in the same code both decide: the first one leaves the other's events."""
    frame = here()
    scene.tap.send(OTHER, frame, 10.0)
    scene.tap.send(get_ident(), frame, 10.0)

    monitoring.callbacks[TOOLS[0]](frame.f_code, 0)
    assert monitoring.local[frame.f_code] == (TOOLS[0], INSTRUCTION)

    assert scene.tap.withdraw(OTHER)
    assert monitoring.local[frame.f_code] == (TOOLS[0], 0)
    assert not scene.tap.withdraw(OTHER)


def test_tap_withdrawn_while_being_set_leaves_no_events(
    scene: Scene, monitoring: Monitoring
) -> None:
    """A tap that is withdrawn while its events are being set leaves no events.

    The thread can hear another one's events in the same code between the note and its own.
    """
    frame = here()
    monitoring.meanwhile = lambda: scene.tap.withdraw(OTHER)

    scene.tap.send(OTHER, frame, 10.0)

    assert monitoring.local[frame.f_code] == (TOOLS[0], 0)


def test_thread_in_other_code_is_tapped_there(scene: Scene, monitoring: Monitoring) -> None:
    """A thread that is in other code by now is tapped there, and the first code's events end."""
    scene.tap.send(OTHER, here(), 10.0)
    scene.tap.send(OTHER, there(), 10.001)

    assert monitoring.local[here.__code__] == (TOOLS[0], 0)
    assert monitoring.local[there.__code__] == (TOOLS[0], INSTRUCTION)
    scene.tap.forget()
    assert monitoring.local[there.__code__] == (TOOLS[0], 0)


def test_second_tap_in_same_code_keeps_its_events(scene: Scene, monitoring: Monitoring) -> None:
    """A second tap in the same code does not remove the events of the first one in between.

    Each change of the events rewrites the instructions of the code, which is slow if it is long.
    """
    scene.tap.send(OTHER, here(), 10.0)
    scene.tap.send(OTHER, here(), 10.001)

    assert set(monitoring.were_set) == {INSTRUCTION}


def test_thread_that_does_not_decide_is_in_c_code(scene: Scene) -> None:
    """A thread that does not hear for some time cannot be tapped: it is in C code.

    The time runs from the first tap, in whatever code, and again after it has heard.
    """
    assert HEARING < 0.1, "a loop that waits is woken by an injection"
    assert scene.tap.send(OTHER, here(), 10.0)
    assert scene.tap.send(OTHER, there(), 10.0 + HEARING * 0.9)
    assert not scene.tap.send(OTHER, there(), 10.0 + HEARING)
    scene.tap.withdraw(OTHER)
    assert scene.tap.send(OTHER, there(), 10.0 + HEARING)


def test_reloaded_package_reuses_its_tool(scene: Scene, monitoring: Monitoring) -> None:
    """A package that is loaded again finds its tool by name, and replaces the callback."""
    other = Scene()
    other.tap.send(get_ident(), here(), 10.0)
    scene.tap.send(get_ident(), here(), 10.0)

    monitoring.callbacks[TOOLS[0]](here().f_code, 0)

    assert list(monitoring.names) == [TOOLS[0]]
    assert (len(other.asked), len(scene.asked)) == (0, 1)


def test_used_tool_ids_are_skipped(scene: Scene, monitoring: Monitoring) -> None:
    """A tool number that another tool uses is skipped; without a free one no thread is tapped."""
    assert {0, 1, 2, 5}.isdisjoint(TOOLS), "a debugger's, coverage's, a profiler's, an optimizer's"
    monitoring.names[TOOLS[0]] = "another tool"
    assert scene.tap.send(OTHER, here(), 10.0)
    assert list(monitoring.callbacks) == [TOOLS[1]]

    monitoring.names[TOOLS[1]] = "another tool"
    assert not scene.tap.send(OTHER, here(), 10.0)
    assert scene.tap.withdraw(OTHER)
    assert monitoring.local[here.__code__] == (TOOLS[1], INSTRUCTION), (
        "the tool id belongs to another tool"
    )


def test_no_thread_is_tapped_where_nothing_may_land(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread is tapped that has ended or is in the package, and none without monitoring."""
    assert not scene.tap.send(OTHER, None, 10.0)
    ours: Any = SimpleNamespace(f_code=Tap.send.__code__)
    assert not scene.tap.send(OTHER, ours, 10.0)
    monkeypatch.setattr(taps, "_monitoring", None)
    assert not scene.tap.send(OTHER, here(), 10.0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
def test_real_thread_is_interrupted_by_tap() -> None:
    """A real thread in a loop gets the interrupt, and its code has no events afterwards."""
    scene = Scene()
    scene.error = TimeoutError("decided")
    begun = threading.Event()

    def loop() -> None:
        begun.set()
        while True:
            pass

    ended = threading.Event()

    def work() -> None:
        with pytest.raises(TimeoutError, match="decided"):
            loop()
        ended.set()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert begun.wait(BOUND)
    while not ended.wait(0.001):
        scene.tap.send(worker.ident or 0, sys._current_frames().get(worker.ident or 0), 0.0)
    worker.join()
    scene.tap.forget()

    assert scene.asked
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    assert monitoring.get_local_events(TOOLS[0], loop.__code__) == 0
