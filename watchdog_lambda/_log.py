"""What the package has to say at start, through ``logging``; never while the watchdog fires.

``logging`` itself is imported by whoever has something to say, which is rare: it would
be some 10 ms of every cold start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger


def logger() -> Logger:
    """The package's logger. Thread: any that may wait for ``logging``'s locks."""
    import logging  # noqa: PLC0415

    return logging.getLogger("watchdog_lambda")
