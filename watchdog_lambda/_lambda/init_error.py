"""A bad setting at init, as Lambda's runtime should show it.

The runtime would print every frame between its own and the line that has refused the setting: a
dozen of importlib's and of this package's. It leaves the stack to an error that is its own
``FaultException``, so this one is that as well.
"""

from __future__ import annotations

import traceback

from awslambdaric.lambda_runtime_exception import FaultException

from watchdog_lambda._cpython.source import SourceMap, current_path
from watchdog_lambda.errors import ConfigurationError


class InitError(ConfigurationError, FaultException):  # type: ignore[misc]
    """A :class:`ConfigurationError` whose stack is the user's own frames, of which most have none.

    There are some where a ``@watch`` in the handler's module has been given what cannot be used.
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


# For the traceback of a process that is not Lambda's runtime.
InitError.__name__ = InitError.__qualname__ = ConfigurationError.__name__
InitError.__module__ = ConfigurationError.__module__
