"""A plugin of pytest's for ``dev.py coverage``: it sees more, and disturbs less.

* A thread that is not :mod:`threading`'s has no trace function; all of the package's are such.
* Tracing for one landing gives way to a trace function that is there already, and coverage's is
  one. So it is taken away for the landing, and put back before the next test.

A test that a trace function would change all the same, as it makes check points of its own, is
marked ``untraced`` and left out: what it covers could not be seen.
"""

from __future__ import annotations

import sys
import threading
from _thread import start_new_thread
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda._cpython.approach import Approach
from watchdog_lambda._engine import daemon as _daemon
from watchdog_lambda._engine import stage as _stage
from watchdog_lambda._lambda import sandbox as _sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_STARTERS = (_sandbox, _stage, _daemon)
"""The modules that start threads."""

_tracer = sys.gettrace()


def _start_traced(function: Callable[..., Any], arguments: tuple[Any, ...]) -> int:
    def run() -> None:
        sys.settrace(threading.gettrace())
        function(*arguments)

    return start_new_thread(run, ())


_allows = Approach.allows


def _allows_untraced(approach: Approach, frame: FrameType, *, is_last_call: bool) -> bool:
    if _tracer is not None and sys.gettrace() is _tracer:
        sys.settrace(None)
    return _allows(approach, frame, is_last_call=is_last_call)


def pytest_configure() -> None:
    """Put ours instead of what the package has imported."""
    for module in _STARTERS:
        vars(module)["start_new_thread"] = _start_traced
    # What tells threads from gevent's greenlets.
    vars(_daemon)["BuiltinFunctionType"] = FunctionType
    setattr(Approach, "allows", _allows_untraced)  # noqa: B010 - mypy lets no method be set


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Put coverage's trace function back that a landing in the test before has taken away."""
    if _tracer is not None:
        sys.settrace(_tracer)
    return (yield)
