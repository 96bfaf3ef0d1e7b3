"""The handler that is watched, and how long before the hard deadline it would be ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[Any, Any], Any]

MARGIN: Final = 3.0
"""Seconds before the hard deadline at which each would act; our grace period's default."""


def noop(event: Any, context: Any) -> Any:  # noqa: ARG001 - what every handler is given
    """Handle nothing."""
    return event
