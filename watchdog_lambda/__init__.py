"""End AWS Lambda timeouts gracefully, without SIGALRM.

A watchdog thread tracks each invocation's remaining time and, one grace period before the hard
deadline, runs the shutdown hooks and lands an exception in the handler, so that its ``except
TimeoutError``, ``finally`` and ``with`` run and the caller gets a real answer.

Importing this package starts no thread, installs no signal handler and reads no environment.
"""

from __future__ import annotations

from ._api import Watchdog, shield, watch
from ._catch import catch_timeout
from ._engine.current import remaining_time
from ._register import sandbox_shutdown_hook, scoped_hook, shutdown_hook
from ._time_limit import time_limit
from .details import TimeoutDetails
from .errors import ConfigurationError, Interrupt, LambdaTimeout, TimeLimitExceeded

__all__ = [
    "ConfigurationError",
    "Interrupt",
    "LambdaTimeout",
    "TimeLimitExceeded",
    "TimeoutDetails",
    "Watchdog",
    "catch_timeout",
    "remaining_time",
    "sandbox_shutdown_hook",
    "scoped_hook",
    "shield",
    "shutdown_hook",
    "time_limit",
    "watch",
]

__version__ = "0.1.0"
