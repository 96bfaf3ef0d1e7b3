"""A debugger, profiler or tracer in Python: its code runs between the guard's lines, too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import landed_outside
from watchdog_lambda import LambdaTimeout, watch
from watchdog_lambda.testing import FakeContext, expire

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class Tool:
    """Traces the guard, and is out of time at one of its lines after the handler's end."""

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
                expire()  # lands in here, as in any code of a tool's
            self._line -= 1
        return self.trace


def strike_at(line: int, handler: Callable[[Tool], object]) -> object:
    """What the caller has got."""
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


# As long as the invocation is open: after its end nothing lands, in no tool's code either.
@pytest.mark.parametrize("line", range(3))
def test_an_interrupt_in_a_tracer_never_makes_a_success_of_an_error(line: int) -> None:
    """The caller has the handler's own error, or LambdaTimeout with that as its context."""
    own = KeyError("order")

    def handler(tool: Tool) -> None:
        tool.is_ended = True
        raise own

    came_to = strike_at(line, handler)

    assert came_to is own or isinstance(came_to, LambdaTimeout)
    assert landed_outside() == []


def test_an_interrupt_in_a_tracer_leaves_a_result() -> None:
    """What has been returned and stored is the caller's."""
    value = object()

    def handler(tool: Tool) -> object:
        tool.is_ended = True
        return value

    assert strike_at(0, handler) is value
    assert landed_outside() == []
