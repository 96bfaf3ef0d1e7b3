"""Checks that a hook or fallback accepts the arguments it will get, when it is given.

Otherwise a mistake would show only during a timeout, in its record. Signatures are read from code
objects, because ``inspect`` takes some 5 ms to import. C code has no code object, so it is not
checked.
"""

from __future__ import annotations

import functools
import types

from ._async import is_coroutine_function
from ._hooks import hook_name
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Never

_VARIABLE_POSITIONAL = 0x04  # inspect.CO_VARARGS
_VARIABLE_KEYWORDS = 0x08  # inspect.CO_VARKEYWORDS


class Signature:
    """The parameters of a callable, without those already bound."""

    __slots__ = ("any_names", "any_number", "keywords", "names", "optional")

    def __init__(self, function: types.FunctionType, bound: int, given: Collection[str]) -> None:
        code = function.__code__
        positional = code.co_varnames[: code.co_argcount]
        end = code.co_argcount + code.co_kwonlyargcount
        keywords = code.co_varnames[code.co_argcount : end]
        defaults = len(function.__defaults__ or ())
        self.optional = {
            *positional[len(positional) - defaults :],
            *(function.__kwdefaults__ or ()),
            *given,
        }
        self.any_number = bool(code.co_flags & _VARIABLE_POSITIONAL)
        self.any_names = bool(code.co_flags & _VARIABLE_KEYWORDS)
        self.names = positional[bound:]
        # A parameter that a partial has bound by name, and all after it, are now keyword-only.
        taken = [index for index, name in enumerate(self.names) if name in given]
        first = min(taken, default=len(self.names))
        self.keywords = (*self.names[first:], *keywords)
        self.names = self.names[:first]

    def takes(self, number: int, names: Collection[str] = ()) -> bool:
        """Return whether it accepts `number` positional arguments and these keyword arguments."""
        if number > len(self.names) and not self.any_number:
            return False
        by_name = (*self.names[number:], *self.keywords)
        return all(name in by_name or self.any_names for name in names) and all(
            name in names or name in self.optional for name in by_name
        )

    def __str__(self) -> str:
        shown = [self._shown(name) for name in self.names]
        if self.any_number:
            shown.append("*args")
        elif self.keywords:
            shown.append("*")
        shown += [self._shown(name) for name in self.keywords]
        if self.any_names:
            shown.append("**kwargs")
        return f"({', '.join(shown)})"

    def _shown(self, name: str) -> str:
        return f"{name}=..." if name in self.optional else name


def signature_of(function: object) -> Signature | None:
    """Return a callable's signature; None for C code and classes, where it is not known."""
    bound, given = 0, set[str]()
    while True:
        if isinstance(function, functools.partial):
            bound += len(function.args)
            given.update(function.keywords)
            function = function.func
        elif isinstance(function, types.MethodType):
            bound += 1
            function = function.__func__
        elif isinstance(function, types.FunctionType):
            return Signature(function, bound, given)
        else:
            call = getattr(type(function), "__call__", None)  # noqa: B004 - its code matters
            if not isinstance(call, types.FunctionType):
                return None
            bound += 1
            function = call


def check_hook(function: object, what: str, arguments: str, *, may_be_async: bool) -> None:
    """Refuse a hook that does not accept the arguments it will get.

    Args:
        function: the hook.
        what: the decorator that got it, for the message.
        arguments: the names of the arguments it will get, separated by commas.
        may_be_async: whether an ``async def`` is accepted, to be run on a loop.

    Raises:
        ConfigurationError: not callable, an async function, or one that takes other arguments.
    """
    _require_callable(function, what)
    if not may_be_async:
        _require_plain(function, what, arguments)
    signature = signature_of(function)
    if signature is not None and not signature.takes(arguments.count(",") + bool(arguments)):
        _refuse(function, what, signature, f"({arguments})", arguments)


def check_scoped(function: object, number: int, names: Collection[str]) -> None:
    """Refuse a scoped hook that does not accept the arguments it was given.

    Raises:
        ConfigurationError: not callable, or it does not accept these arguments.
    """
    _require_callable(function, "scoped_hook")
    signature = signature_of(function)
    if signature is not None and not signature.takes(number, names):
        # Do not show the values: they are the user's and may be secret.
        given = ", ".join(["..."] * number + [f"{name}=..." for name in names])
        raise ConfigurationError(
            f"scoped_hook({hook_name(function)}): takes {signature}, and is called with ({given}); "
            "give scoped_hook the arguments that it takes"
        )


def takes_event(fallback: Callable[..., object]) -> bool:
    """Return whether a callable fallback is to get details and event, or the details alone.

    An optional second parameter may have another purpose, so it gets the event only if it is named
    `event`.

    Raises:
        ConfigurationError: an async function, or one that takes other arguments.
    """
    _require_plain(fallback, "fallback", "details")
    signature = signature_of(fallback)
    if signature is None:
        return False
    takes_one, takes_two = signature.takes(1), signature.takes(2)
    # The event comes first in handlers. Here such a function would get the details as its event.
    is_reversed = signature.names[:1] == ("event",)
    if is_reversed or not (takes_one or takes_two):
        called = "(details) or (details, event)"
        _refuse(fallback, "fallback", signature, called, "details, event")
    return not takes_one or (takes_two and signature.names[1:2] == ("event",))


def _require_callable(function: object, what: str) -> None:
    if not callable(function):
        raise ConfigurationError(f"{what}({function!r}): not callable; give it a function")


def _require_plain(function: object, what: str, arguments: str) -> None:
    if is_coroutine_function(function):
        # Its coroutine would be dropped, and the record would say that all went well.
        call = f"{_short_name(function)}({arguments})"
        raise ConfigurationError(
            f"{what}({hook_name(function)}): an async function, but there is no event loop to run "
            f"it; use a plain one, for example {_as_lambda(arguments)}: asyncio.run({call})"
        )


def _refuse(
    function: object, what: str, signature: Signature, called: str, arguments: str
) -> Never:
    name = _short_name(function)
    example = f"def {name}({arguments})" if name.isidentifier() else _as_lambda(arguments)
    raise ConfigurationError(
        f"{what}({hook_name(function)}): takes {signature}, and is called with {called}; "
        f"write it as {example}: ..."
    )


def _short_name(function: object) -> str:
    return hook_name(function).rpartition(".")[2]


def _as_lambda(arguments: str) -> str:
    return f"lambda {arguments}".rstrip()
