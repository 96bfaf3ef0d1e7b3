"""What Lambda is given in the place of the user's handler: ``watchdog_lambda.entrypoint.handler``.

Importing this module resolves the user's handler, as the runtime does at init, and wraps it. Which
one: ``WATCHDOG_LAMBDA_HANDLER``, else the argument of ``python -m watchdog_lambda``, else
``_HANDLER``.

What goes wrong on the way there is the runtime's own error, type and message: its own function
resolves the name. Bad settings are a :class:`ConfigurationError`, which the runtime posts like any
error at init.
"""

from __future__ import annotations

import os
import sys

from . import _command
from ._api import wrap
from ._config import Settings
from ._prepare import prepare
from ._watchdog import thread
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import Any

__all__ = ["handler"]


def choose(environ: MutableMapping[str, str], argument: str | None) -> str:
    """The name of the user's handler, by precedence.

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
        if name.replace("/", ".").split(".", 1)[0] == __package__:
            raise ConfigurationError(
                f"{source}={name!r} names watchdog_lambda itself: there is no handler to wrap; set "
                "WATCHDOG_LAMBDA_HANDLER to your own, for example app.handler"
            )
        return name
    raise ConfigurationError(
        "no handler to wrap; set WATCHDOG_LAMBDA_HANDLER to yours, for example app.handler"
    )


def load(environ: MutableMapping[str, str], argument: str | None = None) -> Callable[..., Any]:
    """Resolve and wrap the user's handler.

    Raises:
        ConfigurationError: a setting that cannot be used.
        awslambdaric.lambda_runtime_exception.FaultException: the name cannot be resolved; the
            runtime's own error.
    """
    settings = Settings.from_environ(environ)
    name = choose(environ, argument)
    # Libraries read it to know the function's handler (tracers name their spans by it).
    if environ.get("_HANDLER", "").replace("/", ".").startswith(f"{__package__}."):
        environ["_HANDLER"] = name
    if not settings.disabled:
        prepare(settings, environ)
    root = environ.get("LAMBDA_TASK_ROOT")
    if root and root not in sys.path:
        sys.path.insert(0, root)
    # Private, and still the one place that knows these errors; others build on it too (Lumigo).
    from awslambdaric.bootstrap import _get_handler  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType]

    resolved: Callable[..., Any] = _get_handler(name)
    if settings.disabled:
        return resolved
    # At init, where Lambda gives every function a full processor; the first invocation may have a
    # fourteenth of one.
    thread.preload()
    return wrap(resolved, settings)


handler = load(os.environ, _command.handler)
