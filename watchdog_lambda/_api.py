"""What users call: watch, hooks, shield."""

from __future__ import annotations

import functools
import math
import os
import sys
from _thread import get_ident

from ._async import is_coroutine_function
from ._config import NO_FALLBACK, Plan, Settings
from ._engine.invocation import active
from ._engine.watchdog import process_watchdog
from ._handler import call_general, guard
from ._hooks import HookRegistry, hook_name
from ._lambda.startup import prepare
from ._log import logger
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar, Unpack, overload

    from ._engine.invocation import Invocation
    from .details import TimeoutDetails
    from .typing import Decorator, Fallback, Options

    P = ParamSpec("P")
    R = TypeVar("R")
    Hook = TypeVar("Hook", bound=Callable[[TimeoutDetails], object])
    SandboxHook = TypeVar("SandboxHook", bound=Callable[[], object])
else:

    def overload(function: object) -> object:
        """Speaks to type checkers only."""
        return function


__all__ = ["Watchdog", "sandbox_shutdown_hook", "scoped_hook", "shield", "shutdown_hook", "watch"]

MARK = "__watchdog_lambda__"
"""On a watched handler, itself: a decorator above copies the attribute, but is not its value."""

_PLAN = "__watchdog_lambda_plan__"
"""Beside it: what is to happen to its invocations."""

_OFF = "__watchdog_lambda_disabled__"
"""On a handler that its own code has switched off: the entrypoint leaves it alone, too."""

_MISSING: Any = object()


class scoped_hook:  # noqa: N801 - used like a function
    """Register a shutdown hook for one block only: ``with scoped_hook(release, lock_id): ...``.

    Called as ``release(lock_id)``, without details, if the watchdog fires inside of the block;
    before the hooks that were registered earlier. Not called at the end of the block: what must
    happen then belongs there.

    It shares the budget of the grace period's hooks, and runs on a thread of its own while the
    block goes on. Whether it runs just before or just after the block has ended, where the two
    fall together, is not promised: it must bear either.

    Args:
        function: what to call; its result is ignored, and an error is recorded and stops nobody.
        *args: handed on to it.
        **kwargs: handed on to it.

    Thread: any. An instance may be entered once at a time.
    """

    __slots__ = ("_call", "_key", "_name", "_registry")

    def __init__(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        _check_callable(function, "scoped_hook")
        self._registry = _hooks
        self._name = hook_name(function)
        self._call = functools.partial(function, *args, **kwargs)
        self._key: int | None = None

    def __enter__(self) -> None:
        call = self._call
        self._key = self._registry.add(self._name, lambda _details: call())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._key is not None:
            self._registry.remove(self._key)


class shield:  # noqa: N801 - used like a function
    """A block that the interrupt waits for: ``with shield(): commit()``.

    An interrupt that is due lands at the end of the outermost shield, and at last call in any case.
    Hooks run all the same. Outside of an invocation it does nothing.

    Thread: the handler's; in any other it does nothing. An instance may be entered once at a time.
    """

    __slots__ = ("_invocation",)

    def __init__(self) -> None:
        self._invocation: Invocation | None = None

    def __enter__(self) -> None:
        invocation = self._invocation = active.get(get_ident())
        if invocation is not None:
            # The store first: an interrupt that is injected before it is taken back in the next
            # line, and none is injected after it.
            invocation.shields += 1
            if invocation.firing is not None:
                try:
                    invocation.firing.withdraw_for_shield()
                except BaseException:
                    # It has landed on the way: the block is not entered, so nobody would take the
                    # shield down.
                    invocation.shields -= 1
                    raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        invocation = self._invocation
        if invocation is None:
            return
        self._invocation = None
        invocation.shields -= 1
        if not invocation.shields and invocation.firing is not None:
            interrupt = invocation.firing.land_at_shield(sys._getframe(1))
            if interrupt is not None:
                raise interrupt


class Watchdog:
    """Settings and hooks of one's own, for the handlers that it watches.

    The module's :func:`watch` and :func:`shutdown_hook` use the environment's settings and the
    hooks that every watched handler shares. Options are the settings' names, in seconds where they
    are times; what is given here takes the place of the environment's.

    Args:
        fallback: what the caller gets instead of the error when a timeout ends the handler: a
            value, or a callable of :class:`TimeoutDetails`. Without one it is
            :class:`LambdaTimeout`.

    Raises:
        ConfigurationError: a setting that cannot be used.

    Thread: any.
    """

    def __init__(
        self,
        *,
        fallback: Fallback = _MISSING,
        **options: Unpack[Options],
    ) -> None:
        self._hooks = HookRegistry()
        self._options: dict[str, Any] = {**options}
        if callable(fallback):
            _check_callable(fallback, "fallback")
        self._fallback = NO_FALLBACK if fallback is _MISSING else fallback
        Settings.from_environ(os.environ, **self._options)  # bad ones are told at once

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self._options.items() if v is not None)
        return f"Watchdog({options})"

    @overload
    def watch(self, handler: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
    @overload
    def watch(self, handler: Callable[P, R], /) -> Callable[P, R]: ...
    def watch(self, handler: Callable[..., Any], /) -> Callable[..., Any]:
        """Watch a handler: its invocations end gracefully before Lambda ends them.

        The wrapper is transparent otherwise: same arguments, same result object, same exceptions,
        same metadata. See :func:`watchdog_lambda.watch`.

        Raises:
            ConfigurationError: not a callable, or a setting in the environment that cannot be used.

        Thread: any.
        """
        if not callable(handler):
            raise ConfigurationError(
                f"watch({handler!r}): not a handler; options are the class's, "
                "for example Watchdog(grace_period=2.0)"
            )
        return _watch(handler, self._options, self._fallback, (self._hooks, _hooks))

    @overload
    def shutdown_hook(self, hook: Hook, /) -> Hook: ...
    @overload
    def shutdown_hook(self, /, *, before: float | None = None) -> Callable[[Hook], Hook]: ...
    def shutdown_hook(self, hook: Any = None, /, *, before: float | None = None) -> Any:
        """Register a hook for this watchdog's handlers, as the module's function does for all.

        See :func:`watchdog_lambda.shutdown_hook`.

        Raises:
            ConfigurationError: not a callable, or `before` is not a positive number of seconds.

        Thread: any.
        """
        return _register(self._hooks, hook, before)


_hooks = HookRegistry()
"""The hooks that every watched handler shares."""


@overload
def watch(handler: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
@overload
def watch(handler: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def watch(*, fallback: Fallback = _MISSING, **options: Unpack[Options]) -> Decorator: ...
def watch(
    handler: Callable[..., Any] | None = None, /, *, fallback: Fallback = _MISSING, **options: Any
) -> Any:
    """Watch a handler: its invocations end gracefully before Lambda ends them.

    One grace period before the hard deadline the shutdown hooks run, and then a
    :class:`LambdaTimeout` lands in the handler, wherever it is. The handler may catch it and
    answer; otherwise the caller gets `fallback`, or the error. What cannot be interrupted: C code
    that neither releases the GIL nor looks at signals.

    Use it plain or with options, ``@watch(grace_period=2.0)``; they are keyword-only and have the
    settings' names. What is given in code takes the place of the environment's. A watched handler
    that runs inside of another, or under the entrypoint, is watched once, with the options given in
    its code.

    An ``async def`` handler becomes a plain function, as Lambda calls it: it runs on one loop kept
    for the process, and its task is cancelled (``CancelledError``) when the interrupt lands.

    Without a context that tells the remaining time (a local test) the handler runs unwatched, and
    the log says so once.

    Args:
        handler: a function, method, partial or other callable of event and context.
        fallback: what the caller gets instead of the error: a value, or a callable of
            :class:`TimeoutDetails`, which last call ends if it hangs.
        **options: `grace_period`, `hook_budget`, `interrupt`, `last_call`, `last_resort`,
            `wake_signal`, `timeout`, `metrics_namespace`, `disabled`; times in seconds. What each
            means is in the reference of the settings.

    Raises:
        ConfigurationError: a setting in the environment or an option that cannot be used.

    Thread: any. The interrupt breaks blocked calls only in the main thread, where Lambda runs
    handlers.
    """
    own_fallback = NO_FALLBACK if fallback is _MISSING else fallback

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        return _watch(handler, options, own_fallback, (_hooks,))

    if callable(fallback):
        _check_callable(fallback, "fallback")
    if handler is None:
        Settings.from_environ(os.environ, **options)  # bad ones are told where they stand
        return decorate
    if not callable(handler):
        raise ConfigurationError(
            f"watch({handler!r}): not a handler; options are keyword-only, "
            "for example @watch(grace_period=2.0)"
        )
    return decorate(handler)


def _watch(
    handler: Callable[..., Any],
    options: dict[str, Any],
    fallback: object,
    registries: tuple[HookRegistry, ...],
) -> Callable[..., Any]:
    settings = Settings.from_environ(os.environ, **options)
    if settings.disabled:
        if options.get("disabled"):
            try:
                setattr(handler, _OFF, True)
            except (AttributeError, TypeError):
                pass  # C code, a bound method
        return handler
    prepare(settings, os.environ)
    given = {name: value for name, value in options.items() if value is not None}
    plan = Plan(settings, registries, fallback, given)
    guarded = guard(handler, plan)

    def watched(
        event: Any = _MISSING, context: Any = _MISSING, /, *args: Any, **kwargs: Any
    ) -> Any:
        if args or kwargs or context is _MISSING:
            given = [argument for argument in (event, context) if argument is not _MISSING]
            return call_general(handler, plan, (*given, *args), kwargs)
        return guarded(event, context)

    functools.update_wrapper(watched, handler)
    watched.__dict__[MARK] = watched
    watched.__dict__[_PLAN] = plan
    return watched


def is_watched(handler: object) -> bool:
    """Whether this very callable is what :func:`watch` has made."""
    return handler is not None and getattr(handler, MARK, None) is handler


def wrap(handler: Callable[..., Any], settings: Settings) -> Callable[[Any, Any], Any]:
    """The entrypoint's wrapper: two arguments; a handler that is watched already stays as it is."""
    plan = plan_of(handler, settings)
    if is_watched(handler) or plan.settings.disabled:
        return handler
    return guard(handler, plan)


def plan_of(handler: Callable[..., Any], settings: Settings) -> Plan:
    """What is to happen to a handler's invocations under the entrypoint."""
    if is_watched(handler):
        plan: Plan = getattr(handler, _PLAN)
        return plan
    given: dict[str, Any] = {}
    if getattr(handler, _OFF, None) is True:
        given["disabled"] = True
        settings = settings.replaced(given)
    return Plan(settings, (_hooks,), NO_FALLBACK, given)


@overload
def shutdown_hook(hook: Hook, /) -> Hook: ...
@overload
def shutdown_hook(*, before: float | None = None) -> Callable[[Hook], Hook]: ...
def shutdown_hook(hook: Any = None, /, *, before: float | None = None) -> Any:
    """Have a function called when the watchdog fires, one grace period before the hard deadline.

    It gets the :class:`TimeoutDetails`, runs on a thread of its own while the handler still runs
    (so it must be safe for that), and shares the stage's budget with the other hooks: the last
    registered runs first, one that raises or hangs stops no other, and when the budget is spent the
    interrupt goes ahead. A stage that has begun is seen through, within its budget, even if the
    handler ends first.

    Args:
        hook: the function; returned unchanged, so this serves as a decorator.
        before: a stage of its own, this many seconds ahead of the hard deadline; at the earliest
            when a quarter of the invocation's time has passed.

    Raises:
        ConfigurationError: `before` is not a positive number of seconds, or the hook is no plain
            callable (an async function).

    Thread: any.
    """
    return _register(_hooks, hook, before)


def sandbox_shutdown_hook(hook: SandboxHook, /) -> SandboxHook:
    """Have a function called, without arguments, when Lambda ends the sandbox.

    With ``WATCHDOG_LAMBDA_SIGTERM=1`` only: without an internal extension Lambda gives no notice.
    All hooks share 400 ms of the 500 ms that it gives, by AWS's documentation of the environment's
    life cycle: the last registered runs first, one that
    raises or hangs stops no other. They run on a thread of their own, while the process is idle or
    in the middle of an invocation. Not promised: Lambda also ends sandboxes without notice, and a
    SIGTERM handler of yours that exits cuts them short.

    Not in Managed Instances, and not in child processes.

    Raises:
        ConfigurationError: not a callable, or an async one.

    Thread: any.
    """
    _check_callable(hook, "sandbox_shutdown_hook")
    from ._lambda import sandbox  # noqa: PLC0415 - for those who use it

    name = hook_name(hook)
    sandbox.hooks.add(name, lambda _details: hook())
    if "AWS_LAMBDA_RUNTIME_API" in os.environ and not Settings.from_environ(os.environ).sigterm:
        logger().warning(
            "sandbox_shutdown_hook(%s) never runs: Lambda gives no notice of the sandbox's end; "
            "set WATCHDOG_LAMBDA_SIGTERM=1",
            name,
        )
    return hook


def _check_callable(function: object, name: str) -> None:
    if not callable(function):
        raise ConfigurationError(f"{name}({function!r}): not callable; give it a function")
    if is_coroutine_function(function):
        # Its coroutine would be dropped, and the record say that all is well.
        raise ConfigurationError(
            f"{name}({hook_name(function)}): an async function, and no event loop to run it; "
            "give it a plain one, for example lambda details: asyncio.run(flush(details))"
        )


def _register(registry: HookRegistry, hook: Any, before: float | None) -> Any:
    # bool is an int, and True no number of seconds.
    is_number = isinstance(before, int | float) and not isinstance(before, bool)
    if before is not None and not (is_number and 0 < before < math.inf):
        raise ConfigurationError(
            f"before={before!r} is not a number of seconds ahead of the hard deadline; "
            "use for example 10.0"
        )

    def register(hook: Any) -> Any:
        _check_callable(hook, "shutdown_hook")
        registry.add(hook_name(hook), hook, before)
        if before is not None:
            process_watchdog.reschedule()
        return hook

    return register if hook is None else register(hook)
