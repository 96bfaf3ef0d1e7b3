"""The public ``watch``, ``Watchdog`` and ``shield``. Hooks are in :mod:`._register`."""

from __future__ import annotations

import sys
from _thread import get_ident

from ._engine.landing import land_at_shield
from ._engine.limits import of_thread
from ._engine.shields import enter_shield, lower_shield
from ._hooks import HookRegistry, shared
from ._plan import NO_FALLBACK
from ._register import register
from ._watched import MISSING, check, watched
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar, Unpack, overload

    from ._engine.invocation import Invocation
    from ._register import Hook
    from .typing import Decorator, Fallback, Options

    P = ParamSpec("P")
    R = TypeVar("R")
else:

    def overload(function: object) -> object:
        """For type checkers only."""
        return function


__all__ = ["Watchdog", "shield", "watch"]


class shield:  # noqa: N801 - used like a function
    """Make the interrupt wait for the end of a block: ``with shield(): commit()``.

    An interrupt that is due lands at the end of the outermost shield, or at last call if that is
    earlier. Hooks still run. A :class:`time_limit` around the shield also waits, without a last
    call. Outside an invocation and a limit it does nothing.

    Thread: the handler's, or one with a limit; in any other it does nothing. An instance can be
    entered by one block at a time.
    """

    __slots__ = ("_shielded",)

    def __init__(self) -> None:
        self._shielded: list[Invocation] = []

    def __enter__(self) -> None:
        is_entered = False
        try:
            for limited in of_thread(get_ident()):
                enter_shield(limited)
                self._shielded.append(limited)
            is_entered = True
        finally:
            if not is_entered:
                self._lower()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for limited in self._lower():
            if not limited.shields and limited.is_open and limited.firing is not None:
                interrupt = land_at_shield(limited.firing, sys._getframe(1))
                if interrupt is not None:
                    raise interrupt

    def _lower(self) -> list[Invocation]:
        shielded, self._shielded = self._shielded, []
        for limited in shielded:
            lower_shield(limited)
        return shielded


class Watchdog:
    """Settings and hooks for the handlers that this instance watches.

    The module's own :func:`watch` and :func:`shutdown_hook` use the environment's settings and the
    hooks that all watched handlers share. Options have the settings' names; times are in seconds.
    Options given here take precedence over the environment.

    Args:
        fallback: what the caller gets instead of the error when a timeout ends the handler: a
            value, or a callable of :class:`TimeoutDetails`, or of these and the event. Without a
            fallback the caller gets :class:`LambdaTimeout`.

    Raises:
        ConfigurationError: a setting cannot be used.

    Thread: any.
    """

    def __init__(
        self,
        *,
        fallback: Fallback = MISSING,
        **options: Unpack[Options],
    ) -> None:
        self._hooks = HookRegistry()
        self._options: dict[str, Any] = {**options}
        self._fallback = NO_FALLBACK if fallback is MISSING else fallback
        check(self._options, self._fallback)

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self._options.items() if v is not None)
        return f"Watchdog({options})"

    @overload
    def watch(self, handler: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
    @overload
    def watch(self, handler: Callable[P, R], /) -> Callable[P, R]: ...
    def watch(self, handler: Callable[..., Any], /) -> Callable[..., Any]:
        """Watch a handler, so that its invocations end gracefully before Lambda kills them.

        Otherwise the wrapper is transparent: same arguments, same result object, same exceptions,
        same metadata. See :func:`watchdog_lambda.watch`.

        Raises:
            ConfigurationError: not a callable, or a setting in the environment cannot be used.

        Thread: any.
        """
        if not callable(handler):
            raise ConfigurationError(
                f"watch({handler!r}): not a handler; options are the class's, "
                "for example Watchdog(grace_period=2.0)"
            )
        return watched(handler, self._options, self._fallback, (self._hooks, shared))

    @overload
    def shutdown_hook(self, hook: Hook, /) -> Hook: ...
    @overload
    def shutdown_hook(self, /, *, before: float | None = None) -> Callable[[Hook], Hook]: ...
    def shutdown_hook(self, hook: Any = None, /, *, before: float | None = None) -> Any:
        """Register a hook for this watchdog's handlers only.

        Otherwise it works like :func:`watchdog_lambda.shutdown_hook`.

        Raises:
            ConfigurationError: not a callable, or `before` is not a positive number of seconds.

        Thread: any.
        """
        return register(self._hooks, hook, before)


@overload
def watch(handler: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
@overload
def watch(handler: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def watch(*, fallback: Fallback = MISSING, **options: Unpack[Options]) -> Decorator: ...
def watch(
    handler: Callable[..., Any] | None = None, /, *, fallback: Fallback = MISSING, **options: Any
) -> Any:
    """Watch a handler, so that its invocations end gracefully before Lambda kills them.

    One grace period before the hard deadline the shutdown hooks run. Then a :class:`LambdaTimeout`
    lands in the handler, wherever it is. The handler may catch it and answer; otherwise the caller
    gets `fallback`, or the error. C code that neither releases the GIL nor checks for signals
    cannot be interrupted.

    Use the decorator plain, or with options: ``@watch(grace_period=2.0)``. Options are keyword-only
    and have the settings' names. They take precedence over the environment. A watched handler that
    runs inside another one, or under the entrypoint, is watched once, with the options in its own
    code.

    An ``async def`` handler becomes a plain function, which Lambda can call. It runs on one loop
    that is kept for the process, and its task is cancelled (``CancelledError``) when the interrupt
    lands.

    If the context does not tell the remaining time, as in a local test, the handler runs unwatched,
    and the log says so once.

    Args:
        handler: a function, method, partial or other callable of event and context.
        fallback: what the caller gets instead of the error: a value, or a callable. A callable of
            one argument gets the :class:`TimeoutDetails`, one of two arguments the details and the
            event: ``def answer(details, event): ...``. If it hangs, last call ends it.
        **options: `grace_period`, `hook_budget`, `interrupt`, `last_call`, `last_resort`,
            `wake_signal`, `timeout`, `metrics_namespace`, `disabled`; times in seconds. The
            settings' reference describes each.

    Raises:
        ConfigurationError: a setting in the environment or an option cannot be used, or the
            fallback takes other arguments.

    Thread: any. Blocked calls are interrupted only in the main thread, where Lambda runs handlers.
    """
    own_fallback = NO_FALLBACK if fallback is MISSING else fallback

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        return watched(handler, options, own_fallback, (shared,))

    if handler is None:
        check(options, own_fallback)  # refuse bad ones where they are written
        return decorate
    if not callable(handler):
        raise ConfigurationError(
            f"watch({handler!r}): not a handler; options are keyword-only, "
            "for example @watch(grace_period=2.0)"
        )
    return decorate(handler)
