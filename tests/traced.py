"""A pytest plugin for ``dev.py coverage``, which makes it see more and disturb less.

* A thread that is not :mod:`threading`'s has no trace function, and all of the package's are such.
* Tracing for one landing is not used where a trace function exists, as coverage's does. So that is
  removed for the landing, and restored before the next test.

A test whose behaviour a trace function would change all the same, because it makes check points of
its own, is marked ``untraced`` and left out: what it covers could not be seen.
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
    """Replace what the package has imported."""
    for module in _STARTERS:
        vars(module)["start_new_thread"] = _start_traced
    # This tells threads from gevent's greenlets.
    vars(_daemon)["BuiltinFunctionType"] = FunctionType
    setattr(Approach, "allows", _allows_untraced)  # noqa: B010 - mypy lets no method be set


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Restore coverage's trace function, which a landing in the test before has removed."""
    if _tracer is not None:
        sys.settrace(_tracer)
    return (yield)
