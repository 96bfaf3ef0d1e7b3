"""Wraps a handler so that it is watched, in code and under the entrypoint."""

from __future__ import annotations

import functools
import os
from types import FunctionType

from ._config import Settings
from ._handler import call_general, guard
from ._hooks import shared
from ._lambda.startup import prepare
from ._plan import NO_FALLBACK, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._hooks import HookRegistry

MARK = "__watchdog_lambda__"
"""The attribute of a watched handler that refers to the handler itself.

A decorator around the handler copies the attribute, but is a different object than its value.
"""

_PLAN = "__watchdog_lambda_plan__"
"""The attribute of a watched handler that holds its plan."""

_OFF = "__watchdog_lambda_disabled__"
"""The attribute of a handler that its own code has disabled, so that the entrypoint does not watch
it either."""

MISSING: Any = object()
"""Stands for a fallback, or an argument, that was not given."""


def watched(
    handler: Callable[..., Any],
    options: dict[str, Any],
    fallback: object,
    registries: tuple[HookRegistry, ...],
) -> Callable[..., Any]:
    """Wrap a handler transparently, with the environment's settings and these options."""
    settings = Settings.from_environ(os.environ, **options)
    if settings.disabled:
        if options.get("disabled"):
            try:
                setattr(handler, _OFF, True)
            except (AttributeError, TypeError):
                pass  # C code and bound methods take no attributes
        return handler
    prepare(settings, os.environ)
    given = {name: value for name, value in options.items() if value is not None}
    plan = Plan(settings, registries, fallback, given, takes_event=_takes_event(fallback))
    guarded = guard(handler, plan)

    def watched(event: Any = MISSING, context: Any = MISSING, /, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or context is MISSING:
            given = [argument for argument in (event, context) if argument is not MISSING]
            return call_general(handler, plan, (*given, *args), kwargs)
        return guarded(event, context)

    wrapper = _called_as(handler, guarded) or watched
    functools.update_wrapper(wrapper, handler)
    wrapper.__dict__[MARK] = wrapper
    wrapper.__dict__[_PLAN] = plan
    return wrapper


_VARIABLE = 0x04 | 0x08  # inspect's CO_VARARGS and CO_VARKEYWORDS; inspect takes 10 ms to import


def _called_as(handler: Callable[..., Any], guarded: Any) -> FunctionType | None:
    """Return the guard itself, with the names and defaults of the handler's two parameters.

    This saves a frame in every call. Returns None for a handler with other parameters.
    """
    if not isinstance(handler, FunctionType):
        return None
    code, own = handler.__code__, guarded.__code__
    if code.co_argcount != 2 or code.co_kwonlyargcount or code.co_flags & _VARIABLE:
        return None
    made = own.replace(
        co_posonlyargcount=code.co_posonlyargcount,
        co_varnames=(*code.co_varnames[:2], *own.co_varnames[2:]),
    )
    return FunctionType(
        made, guarded.__globals__, argdefs=handler.__defaults__, closure=guarded.__closure__
    )


def check(options: dict[str, Any], fallback: object) -> None:
    """Validate options and fallback before there is a handler, where the user has written them.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    Settings.from_environ(os.environ, **options)
    _takes_event(fallback)


def _takes_event(fallback: object) -> bool:
    if fallback is NO_FALLBACK or not callable(fallback):
        return False
    from ._signatures import takes_event  # noqa: PLC0415 - only for callable fallbacks

    return takes_event(fallback)


def is_watched(handler: object) -> bool:
    """Return whether :func:`watched` has made this very callable."""
    return handler is not None and getattr(handler, MARK, None) is handler


def wrap(handler: Callable[..., Any], settings: Settings) -> Callable[[Any, Any], Any]:
    """Wrap a handler for the entrypoint, with two arguments. A watched handler stays as it is."""
    plan = plan_of(handler, settings)
    if is_watched(handler) or plan.settings.disabled:
        return handler
    return guard(handler, plan)


def plan_of(handler: Callable[..., Any], settings: Settings) -> Plan:
    """Return the plan for a handler's invocations under the entrypoint."""
    if is_watched(handler):
        plan: Plan = getattr(handler, _PLAN)
        return plan
    given: dict[str, Any] = {}
    if getattr(handler, _OFF, None) is True:
        given["disabled"] = True
        settings = settings.replaced(given)
    return Plan(settings, (shared,), NO_FALLBACK, given)
