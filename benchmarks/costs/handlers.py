"""The handler that is watched, and how long before the hard deadline it would be ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[Any, Any], Any]

MARGIN: Final = 3.0
"""Seconds before the hard deadline at which each would act; our grace period's default."""


def noop(event: Any, context: Any) -> Any:  # noqa: ARG001 - what every handler is given
    """Handle nothing."""
    return event


class Context:
    """An invocation's context with so many seconds left, from now on."""

    aws_request_id = function_name = "costs"
    function_version = "1"

    def __init__(self, remaining: float) -> None:
        self._until = time.monotonic() + remaining

    def get_remaining_time_in_millis(self) -> float:
        """The rest, with its fraction."""
        return (self._until - time.monotonic()) * 1000
