"""The ways to end a handler in time that are compared, around the same handler."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from watchdog_lambda import watch
from watchdog_lambda._api import wrap
from watchdog_lambda._config import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[Any, Any], Any]

MARGIN = 3.0
"""Seconds before the hard deadline at which each of them would act; our grace period's default."""


def noop(event: Any, context: Any) -> Any:  # noqa: ARG001 - what every handler is given
    """Handle nothing."""
    return event


def with_alarm(handler: Handler) -> Handler:
    """Watch with SIGALRM: the recipe that is passed around."""

    def expired(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    @functools.wraps(handler)
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

    @functools.wraps(handler)
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


def with_stopit(handler: Handler) -> Handler:
    """Watch with stopit, which injects an exception from a timer's thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, at every process's start
        import stopit  # noqa: PLC0415 - may not be there

    @functools.wraps(handler)
    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        with stopit.ThreadingTimeout(remaining):
            return handler(event, context)

    return wrapper


class Contender(NamedTuple):
    """One way to watch a handler."""

    name: str
    handler: Handler
    is_ours: bool = False


def contenders() -> tuple[list[Contender], list[str]]:
    """All of them, the unwatched handler first; and why some are missing."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("WATCHDOG_LAMBDA_")}
    present = [
        Contender("bare", noop),
        Contender("entrypoint", wrap(noop, Settings.from_environ(environ)), is_ours=True),
        Contender("@watch", watch(noop), is_ours=True),
        Contender("SIGALRM recipe", with_alarm(noop)),
        Contender("threading.Timer", with_timer(noop)),
    ]
    try:
        present.append(Contender("stopit", with_stopit(noop)))
    except ImportError as error:
        return present, [f"SKIPPED: stopit: {error} (pip install stopit 'setuptools<81')"]
    return present, []


class _Context:
    """What awslambdaric's context does when it is asked for the time."""

    def __init__(self, deadline_ms: int) -> None:
        self.aws_request_id = "00000000-0000-0000-0000-000000000000"
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        left = self._deadline_ms - int(time.time() * 1000)
        return max(left, 0)


def runtime_is_here() -> bool:
    """Whether awslambdaric is installed."""
    return importlib.util.find_spec("awslambdaric") is not None


def context(later_ms: int = 0) -> Any:
    """A context with a quarter of an hour, Lambda's longest, and a bit more on request."""
    deadline_ms = int(time.time() * 1000) + 900_000 + later_ms
    if not runtime_is_here():
        return _Context(deadline_ms)
    from awslambdaric.lambda_context import LambdaContext  # noqa: PLC0415 - may not be there

    return LambdaContext("00000000-0000-0000-0000-000000000000", None, None, deadline_ms)
