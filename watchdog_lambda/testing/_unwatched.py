"""Explains why there is no watched invocation when a test moves the time."""

from __future__ import annotations

import sys

from watchdog_lambda._cpython.source import GUARD, PACKAGE
from watchdog_lambda._engine.current import under_way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def why_unwatched(name: str) -> str:
    """Return the error message for our function `name`. Thread: the one that called it."""
    count = len(under_way())
    if count > 1:
        return (
            f"{name}(): {count} invocations are under way, and this thread belongs to none "
            "of them; call it in a handler's own thread"
        )
    frame = _guard(sys._getframe(1))
    if frame is not None:
        return (
            f"{name}(): the handler is not watched, for {_what_is_wrong(frame)}; call the "
            "handler with a watchdog_lambda.testing.FakeContext()"
        )
    return (
        f"{name}(): no watched invocation is under way. Call it inside of a handler that is "
        "watched: decorated with @watch, or in the test, watch(app.handler)(event, FakeContext()); "
        "and without WATCHDOG_LAMBDA_DISABLED=1"
    )


def _guard(frame: FrameType | None) -> FrameType | None:
    """Return the guard's frame around a watched handler, if this thread is in one."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == GUARD and code.co_filename.startswith(PACKAGE):
            return frame
        frame = frame.f_back
    return None


def _what_is_wrong(guard: FrameType) -> str:
    """Say what is wrong with the context that the handler was called with."""
    # The context is the second parameter; its name is the handler's own.
    context = guard.f_locals.get(guard.f_code.co_varnames[1])
    kind = type(context).__name__
    if not hasattr(context, "get_remaining_time_in_millis"):
        return f"its context, {kind}, has no get_remaining_time_in_millis()"
    time = type(guard.f_locals.get("remaining_ms")).__name__
    return f"its context, {kind}, gives no usable remaining time, but {time}"
