"""The time limit for each record of a batch."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from watchdog_lambda._async import call_opaque
from watchdog_lambda._setting import is_number
from watchdog_lambda._time_limit import time_limit
from watchdog_lambda.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def checked(seconds: Any) -> float | None:
    """Validate the value of `record_time_limit`.

    Raises:
        ConfigurationError: it is not a number of seconds above 0.
    """
    if seconds is None:
        return None
    if not is_number(seconds) or seconds <= 0:
        raise ConfigurationError(
            f"record_time_limit={seconds!r}: not a number of seconds above 0; for example 5.0, or "
            "None for no limit"
        )
    return float(seconds)


def limited(handler: Callable[..., Any], seconds: float | None) -> Callable[..., Any]:
    """Wrap `handler` so that a record that takes longer raises ``TimeLimitExceeded``."""
    if seconds is None:
        return handler
    call = with_frame(handler)

    # This function's name marks where the user's code ends; see _cpython.source.RECORD.
    def opened(**arguments: Any) -> Any:
        with time_limit(seconds):
            return call(**arguments)

    return opened


def limited_async(handler: Callable[..., Any], seconds: float | None) -> Callable[..., Any]:
    """Do the same for a coroutine function: the record's task is cancelled while it waits."""
    if seconds is None:
        return handler

    async def opened(**arguments: Any) -> Any:
        async with time_limit(seconds):
            return await handler(**arguments)

    return opened


def with_frame(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return `handler`, or a function that calls it: an interrupt needs a frame to land in."""
    function = handler.__func__ if isinstance(handler, types.MethodType) else handler
    if isinstance(function, types.FunctionType):
        return handler

    def call(**arguments: Any) -> Any:
        return call_opaque(handler, (), arguments)

    return call
