"""End AWS Lambda timeouts gracefully, without SIGALRM.

A watchdog thread tracks each invocation's remaining time. One grace period before the hard deadline
it runs the shutdown hooks and raises an exception in the handler, so that the handler's ``except
TimeoutError``, ``finally`` and ``with`` run and the caller gets a real answer.

Importing this package starts no thread, installs no signal handler and reads no environment.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._aftermath import after_timeout, recovers
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
    "after_timeout",
    "catch_timeout",
    "recovers",
    "remaining_time",
    "sandbox_shutdown_hook",
    "scoped_hook",
    "shield",
    "shutdown_hook",
    "time_limit",
    "watch",
]

__version__ = "0.1.0"

# A function whose handler is only wrapped by the entrypoint needs none of these, and each module
# would add a tenth of a millisecond to its cold start.
_HOMES = {
    "ConfigurationError": ".errors",
    "Interrupt": ".errors",
    "LambdaTimeout": ".errors",
    "TimeLimitExceeded": ".errors",
    "TimeoutDetails": ".details",
    "Watchdog": "._api",
    "after_timeout": "._aftermath",
    "catch_timeout": "._catch",
    "recovers": "._aftermath",
    "remaining_time": "._engine.current",
    "sandbox_shutdown_hook": "._register",
    "scoped_hook": "._register",
    "shield": "._api",
    "shutdown_hook": "._register",
    "time_limit": "._time_limit",
    "watch": "._api",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see above

    value = globals()[name] = getattr(import_module(home, __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
