"""Warnings of the package, through ``logging``; never while the watchdog fires.

``logging`` is imported when there is something to say, which is rare: it would be some 10 ms of
every cold start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger

said: set[object] = set()
"""The causes that this process has been warned of."""


def logger() -> Logger:
    """The package's logger. Thread: any that may wait for ``logging``'s locks."""
    import logging  # noqa: PLC0415

    return logging.getLogger("watchdog_lambda")


def warn_once(cause: object, message: str, *args: object) -> None:
    """Log a warning, unless this process has been warned of the same `cause`.

    What causes it comes again with every invocation, and would fill the log.

    Thread: any that may wait for ``logging``'s locks.
    """
    if cause not in said:
        said.add(cause)
        logger().warning(message, *args)
