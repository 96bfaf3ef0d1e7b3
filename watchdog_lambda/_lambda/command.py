"""Determines the handler: by the command line, the precedence, and the runtime's own lookup.

The command line's handler is kept here for :mod:`.entrypoint`, which the runtime imports by name.
It is not in the environment, because the handler's child processes would inherit it.
"""

from __future__ import annotations

import sys

from watchdog_lambda.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Any

handler: str | None = None
"""The handler named on the command line of ``python -m watchdog_lambda``."""


def choose(environ: Mapping[str, str], argument: str | None) -> str:
    """Return the name of the user's handler, by precedence.

    Raises:
        ConfigurationError: there is none, or it names watchdog_lambda itself.
    """
    candidates = (
        ("WATCHDOG_LAMBDA_HANDLER", environ.get("WATCHDOG_LAMBDA_HANDLER", "").strip()),
        ("the command's argument", argument or ""),
        ("_HANDLER", environ.get("_HANDLER", "")),
    )
    for source, name in candidates:
        if not name:
            continue
        if _names_us(name):
            raise ConfigurationError(
                f"{source}={name!r} names watchdog_lambda itself: there is no handler to wrap; set "
                "WATCHDOG_LAMBDA_HANDLER to your own, for example app.handler"
            )
        return name
    raise ConfigurationError(
        "no handler to wrap; name yours on the command line, or set WATCHDOG_LAMBDA_HANDLER to it, "
        "for example app.handler"
    )


def _names_us(name: str) -> bool:
    return name.replace("/", ".").partition(".")[0] == __name__.partition(".")[0]


def as_init_error(error: ConfigurationError) -> ConfigurationError:
    """Return the error in a form that the runtime shows well; see :mod:`.init_error`."""
    try:
        from .init_error import InitError  # noqa: PLC0415 - only if the start fails
    except ModuleNotFoundError:
        return error  # the runtime is not installed
    return InitError(error)


def resolve(environ: MutableMapping[str, str], name: str) -> Callable[..., Any]:
    """Import the user's handler, as the runtime does at init.

    Raises:
        awslambdaric.lambda_runtime_exception.FaultException: the name cannot be resolved; the
            runtime's own error.
    """
    # Libraries read _HANDLER as the function's handler (tracers name their spans after it).
    if _names_us(environ.get("_HANDLER", "")):
        environ["_HANDLER"] = name
    root = environ.get("LAMBDA_TASK_ROOT")
    if root and root not in sys.path:
        sys.path.insert(0, root)
    # It is private, but only it raises the runtime's own errors. Others use it too (Lumigo).
    from awslambdaric.bootstrap import _get_handler  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType]

    resolved: Callable[..., Any] = _get_handler(name)
    return resolved
