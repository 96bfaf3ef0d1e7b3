"""Finds the handler for ``check`` as the runtime would, by importing its module."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from watchdog_lambda import ConfigurationError
from watchdog_lambda._async import is_coroutine_function
from watchdog_lambda._config import SETTINGS
from watchdog_lambda._lambda.command import choose, resolve
from watchdog_lambda._watched import is_watched

from .report import Resolved, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, MutableMapping

    from .report import Report

_JSON: tuple[type[Any], ...] = (dict, list, tuple, str, int, float)


def find_handler(
    report: Report,
    environ: MutableMapping[str, str],
    sources: Mapping[str, str],
    argument: str | None,
) -> Callable[..., Any] | None:
    """Find the handler. On an error, add it to the report and return None."""
    try:
        if argument and SETTINGS["handler"].variable not in sources:
            # As in invoke: a variable that is set in the shell is not meant for this one call.
            name = choose({}, argument)
            report.settings = [
                Setting("handler", name, "argument") if setting.name == "handler" else setting
                for setting in report.settings
            ]
        else:
            name = choose(environ, argument)
    except ConfigurationError as error:
        report.add("error", str(error))
        return None
    try:
        with _output_aside():
            handler = resolve(environ, name)
    except ModuleNotFoundError as error:
        if error.name != "awslambdaric":
            raise
        report.add(
            "error",
            "awslambdaric, Lambda's runtime interface client, is not installed: "
            "pip install 'watchdog-lambda[runtime]'",
        )
        return None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's module may raise anything
        report.add("error", f"{name}: {_in_words(error)}{_meant(name)}")
        return None
    if not callable(handler):
        # The runtime accepts it, and then every invocation fails.
        report.add(  # type: ignore[unreachable]
            "error",
            f"{name}: a {type(handler).__name__}, which cannot be called; "
            "name a function of event and context",
        )
        return None
    if isinstance(handler, type) and not issubclass(handler, _JSON):
        report.add(
            "error",
            f"{name} is a class: calling it makes an instance, which is not an answer; name a "
            "function of event and context, or an instance that can be called",
        )
        return None
    report.handler = _described(name, handler)
    return handler


def _in_words(error: BaseException) -> str:
    # The runtime's own errors have an `exception_type`, which says more than their class.
    kind = getattr(error, "exception_type", None) or type(error).__name__
    return f"{kind}: {getattr(error, 'msg', None) or error}"


def _meant(name: str) -> str:
    """Suggest a dot where the name has a colon, as other servers write it."""
    module, colon, function = name.partition(":")
    return f"; did you mean {module}.{function}?" if colon and module and function else ""


@contextlib.contextmanager
def _output_aside() -> Generator[None]:
    """Send what the import prints to standard error: standard output is for the report."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _described(name: str, handler: Callable[..., Any]) -> Resolved:
    inner: Any = inspect.unwrap(handler)
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = _code_of(inner)  # pyright: ignore[reportUnknownArgumentType]
    file, line = ("", 0) if code is None else (code.co_filename, code.co_firstlineno)
    with contextlib.suppress(ValueError):
        file = str(Path(file).relative_to(Path.cwd()))
    return Resolved(name, file, line, is_coroutine_function(inner), is_watched(handler))


def _code_of(handler: object) -> CodeType | None:
    """Return the code of a function, a method or a callable object; None for C code."""
    for call in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004 - its code matters
        code = getattr(call, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None
