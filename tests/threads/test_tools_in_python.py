"""Debuggers, profilers and tracers in Python, whose code also runs between the guard's lines."""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
from contextlib import contextmanager
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

import coverage
import pytest

from tests.support import BOUND, elsewhere, here, landed_outside
from watchdog_lambda import LambdaTimeout, watch
from watchdog_lambda.testing import FakeContext, expire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType


class Tool:
    """Traces the guard, and lets the time run out at one of its lines after the handler's end."""

    def __init__(self, line: int) -> None:
        self._line = line  # counted from the handler's end
        self.is_ended = False
        self.has_struck = False

    def trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_name != "guarded":
            return None
        if event == "line" and self.is_ended:
            if not self._line:
                self.has_struck = True
                expire()  # the interrupt lands here, in the tool's code
            self._line -= 1
        return self.trace


def strike_at(line: int, handler: Callable[[Tool], object]) -> object:
    """Return the result or error that the caller gets."""
    tool = Tool(line)
    watched = watch(lambda _event, _context: handler(tool))
    before = sys.gettrace()
    sys.settrace(tool.trace)
    try:
        return watched({}, FakeContext())
    except BaseException as error:
        return error
    finally:
        sys.settrace(before)
        assert tool.has_struck


# The lines while the invocation is open. After its end nothing lands, even in a tool's code.
@pytest.mark.parametrize("line", range(3))
def test_interrupt_in_tracer_never_turns_error_into_success(line: int) -> None:
    """If an interrupt lands in a tracer, the caller gets the handler's error or LambdaTimeout.

    An error never becomes a success.
    """
    own = KeyError("order")

    def handler(tool: Tool) -> None:
        tool.is_ended = True
        raise own

    came_to = strike_at(line, handler)

    assert came_to is own or isinstance(came_to, LambdaTimeout)
    assert landed_outside() == []


def test_interrupt_in_tracer_keeps_the_result() -> None:
    """If an interrupt lands in a tracer, a result that was returned reaches the caller."""
    value = object()

    def handler(tool: Tool) -> object:
        tool.is_ended = True
        return value

    assert strike_at(0, handler) is value
    assert landed_outside() == []


# ---- landings beside active tools --------------------------------------------------------------

SECONDS = 2.0  # a quarter is the grace period, which a busy machine should not use up

noted: list[str] = []


def before() -> None:
    noted.append("before")


def after() -> None:
    noted.append("after")


AFTER = after.__code__.co_firstlineno + 1
"""The line after the landing, which a tool must see as well."""


def asks() -> None:
    """Run until interrupted, mostly in code that takes an error for an answer."""
    before()
    try:
        while os.path.exists("/"):  # noqa: PTH110 - as in the loops of landing
            pass
    except TimeoutError:
        after()
        raise


def sleeps() -> None:
    """Wait until interrupted."""
    before()
    try:
        sleep(BOUND)
    except TimeoutError:
        after()
        raise


@contextmanager
def debugger() -> Iterator[None]:
    """Trace the lines of this file with ``sys.settrace``, as a debugger does."""
    lines: set[int] = set()

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename != __file__:
            return None
        if event == "line":
            lines.add(frame.f_lineno)
        return trace

    was = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
        assert sys.gettrace() is trace
    finally:
        sys.settrace(was)
    assert AFTER in lines


@contextmanager
def profiler() -> Iterator[None]:
    """Profile with ``sys.setprofile``."""
    calls: set[str] = set()

    def profile(frame: FrameType, _event: str, _argument: object) -> None:
        calls.add(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        yield
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert {"before", "asks", "after"} <= calls


@contextmanager
def c_profiler() -> Iterator[None]:
    """Profile with ``cProfile``."""
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
    stats: Any = pstats.Stats(profile)
    calls = {name: figures[0] for (_, _, name), figures in stats.stats.items()}
    assert (calls["before"], calls["asks"], calls["after"]) == (1, 1, 1)


@contextmanager
def monitor() -> Iterator[None]:
    """Watch with ``sys.monitoring``: events that are disabled stay off, and others arrive."""
    monitoring: Any = getattr(sys, "monitoring", None)
    if monitoring is None:
        pytest.skip("needs sys.monitoring (Python 3.12)")
    tool, events = monitoring.PROFILER_ID, monitoring.events
    lines: list[int] = []
    starts: set[str] = set()

    def on_line(code: CodeType, line: int) -> object:
        if code is asks.__code__:
            lines.append(line)
        return monitoring.DISABLE

    def on_start(code: CodeType, _offset: int) -> None:
        starts.add(code.co_name)

    monitoring.use_tool_id(tool, "tests")
    monitoring.register_callback(tool, events.LINE, on_line)
    monitoring.register_callback(tool, events.PY_START, on_start)
    monitoring.restart_events()
    monitoring.set_events(tool, events.LINE | events.PY_START)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        for event in (events.LINE, events.PY_START):
            monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
    assert {"before", "asks", "after"} <= starts
    assert 5 < len(lines) < 12, "some lines have instructions in two places"


@contextmanager
def coverage_tool(core: str) -> Iterator[None]:
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("needs sys.monitoring (Python 3.12)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVERAGE_CORE", core)
        tool = coverage.Coverage(data_file=None, include=[__file__], config_file=False)
        tool.start()
    was = sys.gettrace()
    try:
        yield
        assert sys.gettrace() is was
    finally:
        tool.stop()
    assert AFTER in (tool.get_data().lines(__file__) or ())


@pytest.mark.untraced
@pytest.mark.alone
@pytest.mark.parametrize("thread", [here, elsewhere])
@pytest.mark.parametrize(
    ("tool", "handler"),
    [
        # In a running thread the interrupt can land in the trace function's own code.
        (debugger, sleeps),
        (profiler, asks),
        (c_profiler, asks),
        (monitor, asks),
        (partial(coverage_tool, "ctrace"), sleeps),
        (partial(coverage_tool, "sysmon"), asks),
    ],
    ids=["debugger", "profiler", "cProfile", "monitoring", "coverage", "coverage by monitoring"],
)
def test_interrupt_lands_beside_active_tool(
    tool: Any, handler: Callable[[], None], thread: Callable[[Callable[[], Any]], Any]
) -> None:
    """Beside an active tool the interrupt lands, and the tool sees what follows it."""
    if thread is elsewhere and handler is sleeps:
        pytest.skip("a blocked call cannot be interrupted there")
    if thread is elsewhere and sys.version_info < (3, 12):
        pytest.skip("an injection cannot choose where it lands")
    noted.clear()
    watched = watch(lambda _event, _context: handler())

    def work() -> None:
        was = sys.gettrace()
        with tool(), pytest.raises(LambdaTimeout):
            watched({}, FakeContext(SECONDS))
        assert sys.gettrace() is was

    thread(work)
    assert noted == ["before", "after"]
    assert landed_outside() == []
