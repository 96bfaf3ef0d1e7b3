"""The error for a bad setting at init, in the form in which Lambda's runtime should show it.

The runtime would print every frame between its own and the line that refused the setting: a dozen
frames of importlib and of this package. For its own ``FaultException`` it uses the stack that the
error has, so this error is also one of those.
"""

from __future__ import annotations

import traceback

from awslambdaric.lambda_runtime_exception import FaultException

from watchdog_lambda._cpython.source import SourceMap, current_path
from watchdog_lambda.errors import ConfigurationError


class InitError(ConfigurationError, FaultException):  # type: ignore[misc]
    """A :class:`ConfigurationError` whose stack has only the user's own frames.

    Mostly there are none. There are some if a ``@watch`` in the handler's module has a bad option.
    """

    def __init__(self, error: ConfigurationError) -> None:
        ConfigurationError.__init__(self, *error.args)
        code = SourceMap(current_path())
        stack = traceback.extract_tb(error.__traceback__)
        self.msg = str(error)
        self.exception_type = ConfigurationError.__name__
        self.trace = traceback.format_list(
            [frame for frame in stack if code.is_own(frame.filename)]
        )


# For tracebacks outside Lambda's runtime.
InitError.__name__ = InitError.__qualname__ = ConfigurationError.__name__
InitError.__module__ = ConfigurationError.__module__
