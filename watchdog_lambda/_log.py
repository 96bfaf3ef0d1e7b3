"""The package's warnings, through ``logging``. None is logged while the watchdog fires.

``logging`` is imported only for the first warning, which is rare: it would add some 10 ms to every
cold start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger

said: set[object] = set()
"""The causes that this process has already logged a warning for."""


def logger() -> Logger:
    """Return the package's logger. Thread: any that may wait for ``logging``'s locks."""
    import logging  # noqa: PLC0415

    return logging.getLogger("watchdog_lambda")


def warn_once(cause: object, message: str, *args: object) -> None:
    """Log a warning, unless this process has already logged one for the same `cause`.

    The cause recurs with every invocation, and would fill the log.

    Thread: any that may wait for ``logging``'s locks.
    """
    if cause not in said:
        said.add(cause)
        logger().warning(message, *args)
