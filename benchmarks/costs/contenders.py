"""The ways to end a handler in time that are compared, around the same handler."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from watchdog_lambda import watch
from watchdog_lambda._config import Settings
from watchdog_lambda._watched import wrap

from . import libraries
from .handlers import MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from .handlers import Handler


def with_entrypoint(handler: Handler) -> Handler:
    """Watch as our entrypoint does."""
    return wrap(handler, Settings.from_environ(os.environ))


def with_context_only(handler: Handler) -> Handler:
    """Read the remaining time, which whoever would end a handler in time must."""

    def wrapper(event: Any, context: Any) -> Any:
        context.get_remaining_time_in_millis()
        return handler(event, context)

    return wrapper


def with_alarm(handler: Handler) -> Handler:
    """Watch with SIGALRM: the recipe that is passed around."""

    def expired(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        previous = signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, remaining)
        try:
            return handler(event, context)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)

    return wrapper


def with_timer(handler: Handler) -> Handler:
    """Watch with a thread for each call."""

    def expired() -> None:
        pass

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        timer = threading.Timer(remaining, expired)
        timer.start()
        try:
            return handler(event, context)
        finally:
            timer.cancel()
            timer.join()

    return wrapper


class Contender(NamedTuple):
    """One way to watch a handler."""

    name: str
    wrap: Callable[[Handler], Handler]
    """Raises ImportError where it is not installed."""
    how: str
    """How it is used, for the page."""
    is_rival: bool = True
    """Whether it is somebody else's way to end a handler, or to warn before its end."""
    reads_context: bool = True
    """Whether it knows the invocation's deadline."""
    is_vendors: bool = False
    """Whether it lives in the environment of the vendors' wrappers."""


CONTENDERS: Final = {
    contender.name: contender
    for contender in (
        Contender("bare", lambda handler: handler, "the handler, called directly", is_rival=False),
        Contender(
            "context read",
            with_context_only,
            "`context.get_remaining_time_in_millis()` and nothing else; it watches nothing",
            is_rival=False,
        ),
        Contender("entrypoint", with_entrypoint, "`python -m watchdog_lambda`", is_rival=False),
        Contender("@watch", watch, "the decorator", is_rival=False),
        Contender(
            "SIGALRM recipe",
            with_alarm,
            "`signal.signal` and `setitimer` before the handler, both restored after it",
        ),
        Contender("threading.Timer", with_timer, "one for each call, cancelled and joined"),
        Contender("stopit", libraries.with_stopit, "`with ThreadingTimeout(remaining):`"),
        Contender(
            "func_timeout",
            libraries.with_func_timeout,
            "`func_timeout(remaining, handler, (event, context))`",
        ),
        Contender(
            "wrapt_timeout_decorator",
            libraries.with_wrapt_timeout_decorator,
            "`@timeout(...)`, with `dec_timeout=remaining` for each call; signals, its default",
        ),
        Contender(
            "dramatiq",
            libraries.with_dramatiq,
            "what its `TimeLimit` middleware does around a message, whose `time_limit` is what "
            "the context says",
        ),
        Contender(
            "dramatiq, fixed limit",
            libraries.with_dramatiq_fixed,
            "the same with a limit that does not depend on the invocation's deadline",
            reads_context=False,
        ),
        Contender(
            "Sentry timeout_warning",
            libraries.with_sentry,
            "the `TimeoutThread` that its integration starts and stops around the handler; "
            "not its tracing",
            is_vendors=True,
        ),
        Contender(
            "Datadog (ddtrace)",
            libraries.with_datadog,
            "`DatadogInstrumentation`, as `patch()` wraps a handler in it; not its tracing",
            is_vendors=True,
        ),
        Contender(
            "Lumigo",
            libraries.with_lumigo,
            "`start_timeout_timer` and `TimeoutMechanism.stop`, as its tracer calls them; "
            "not its tracing",
            is_vendors=True,
        ),
    )
}


class _Context:
    """What awslambdaric's context does when it is asked for the time."""

    def __init__(self, deadline_ms: int) -> None:
        self.aws_request_id = "00000000-0000-0000-0000-000000000000"
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        left = self._deadline_ms - int(time.time() * 1000)
        return max(left, 0)


def context(later_ms: int = 0) -> Any:
    """A context with a quarter of an hour, Lambda's longest, and a bit more on request."""
    deadline_ms = int(time.time() * 1000) + 900_000 + later_ms
    if importlib.util.find_spec("awslambdaric") is None:
        return _Context(deadline_ms)
    from awslambdaric.lambda_context import LambdaContext  # noqa: PLC0415 - may not be there

    return LambdaContext("00000000-0000-0000-0000-000000000000", None, None, deadline_ms)


OURS: Final = ("entrypoint", "@watch")
RECIPE: Final = "SIGALRM recipe"


def home_of(contender: Contender) -> str | None:
    """The interpreter that has what it needs; None if there is none."""
    return os.environ.get("WRAPPERS_PYTHON") if contender.is_vendors else sys.executable
