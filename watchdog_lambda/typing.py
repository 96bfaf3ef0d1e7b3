"""Protocols for what comes from outside; for type checkers, not imported at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .details import TimeoutDetails

__all__ = ["Fallback", "Handler", "Json", "LambdaContext", "ShutdownHook"]


class LambdaContext(Protocol):
    """The part of Lambda's context object that the watchdog cannot do without."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds to the hard deadline, by the wall clock, never below 0."""
        ...


class Handler(Protocol):
    """A Lambda handler."""

    def __call__(self, event: Any, context: Any, /) -> Any:
        """Answer one event."""
        ...


class ShutdownHook(Protocol):
    """Called when the watchdog fires; on a thread of its own, while the handler still runs."""

    def __call__(self, details: TimeoutDetails, /) -> object:
        """Do what must be done before the sandbox is killed; what it returns is ignored."""
        ...


Json: TypeAlias = "dict[str, Any] | list[Any] | str | float | bool | None"

Fallback: TypeAlias = "Callable[[TimeoutDetails], Any] | Json"
"""What the caller gets instead of the error: a value, or a callable of the details."""
