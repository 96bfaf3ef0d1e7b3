"""Protocols and aliases for type checkers. The package does not import them at run time."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    overload,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .details import TimeoutDetails

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "Decorator",
    "Fallback",
    "Handler",
    "InterruptKind",
    "Json",
    "LambdaContext",
    "LastResort",
    "Options",
    "ShutdownHook",
]


class LambdaContext(Protocol):
    """The part of Lambda's context object that the watchdog requires."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds to the hard deadline, by the wall clock, never below 0."""
        ...


class Handler(Protocol):
    """A Lambda handler."""

    def __call__(self, event: Any, context: Any, /) -> Any:
        """Answer one event."""
        ...


class ShutdownHook(Protocol):
    """Called when the watchdog fires, on its own thread, while the handler still runs."""

    def __call__(self, details: TimeoutDetails, /) -> object:
        """Do what must be done before Lambda kills the sandbox. The result is ignored."""
        ...


class Decorator(Protocol):
    """The decorator that ``watch`` with options returns; it turns ``async def`` into ``def``."""

    @overload
    def __call__(self, handler: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, R], /) -> Callable[P, R]: ...


InterruptKind: TypeAlias = Literal["timeout-error", "base", "none"]
"""The setting ``INTERRUPT``, as an option in code."""

LastResort: TypeAlias = Literal["report", "exit", "supervise"]
"""The setting ``LAST_RESORT``, as an option in code."""


class Options(TypedDict, total=False):
    """The settings that can be given in code, to ``watch`` and ``Watchdog``.

    Times are in seconds. None has the same effect as leaving an option out: the environment's value
    or the default applies.
    """

    grace_period: float | None
    hook_budget: float | None
    interrupt: InterruptKind | None
    last_call: float | None
    last_resort: LastResort | None
    wake_signal: str | None
    timeout: float | None
    sever: bool | None
    samples: int | None
    metrics_namespace: str | None
    disabled: bool | None


Json: TypeAlias = "dict[str, Any] | list[Any] | str | float | bool | None"

Fallback: TypeAlias = (
    "Callable[[TimeoutDetails], Any] | Callable[[TimeoutDetails, Any], Any] | Json"
)
"""The answer for the caller instead of the error: a value, or a callable of details, or of details
and event."""
