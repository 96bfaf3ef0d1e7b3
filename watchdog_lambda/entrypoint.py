"""The handler for Lambda that wraps the user's: ``watchdog_lambda.entrypoint.handler``.

Importing this module resolves the user's handler, as the runtime does at init, and wraps it. The
handler is named by ``WATCHDOG_LAMBDA_HANDLER``, else by the argument of ``python -m
watchdog_lambda``, else by ``_HANDLER``.

The runtime's own function resolves the name, so a bad name raises the runtime's own error, with the
same type and message. A bad setting is a :class:`ConfigurationError`, which the runtime posts like
any error at init.
"""

from __future__ import annotations

import os

from ._config import Settings
from ._lambda import command
from ._lambda.startup import end_init, prepare
from ._watched import plan_of, wrap
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import Any

__all__ = ["handler"]


def load(environ: MutableMapping[str, str], argument: str | None = None) -> Callable[..., Any]:
    """Resolve and wrap the user's handler.

    Raises:
        ConfigurationError: a setting cannot be used.
        awslambdaric.lambda_runtime_exception.FaultException: the name cannot be resolved. This is
            the runtime's own error.
    """
    settings = Settings.from_environ(environ)
    name = command.choose(environ, argument)
    if not settings.disabled:
        prepare(settings, environ, is_entrypoint=True)
    resolved = command.resolve(environ, name)
    if settings.disabled:
        return resolved
    end_init(settings, environ, plan_of(resolved, settings))
    return wrap(resolved, settings)


try:
    handler = load(os.environ, command.handler)
except ConfigurationError as error:
    raise command.as_init_error(error) from None
