"""A handler with all that a check looks at: hooks, a stage of their own, options in its code."""

from __future__ import annotations

import functools
from typing import Any

from watchdog_lambda import sandbox_shutdown_hook, shutdown_hook, watch

print("imported")


@shutdown_hook
def flush(_details: object) -> None:
    """At the grace period."""


@shutdown_hook(before=10.0)
def warn(_details: object) -> None:
    """In a stage of its own."""


@sandbox_shutdown_hook
def close_pool() -> None:
    """Never runs without SIGTERM=1."""


@watch(grace_period=2.0, last_resort="exit")
async def handler(_event: object, _context: object) -> None:
    """Never called by a check."""


def plain(_event: object, _context: object) -> None:
    """Nor is this one."""


@watch(disabled=True)
def off(_event: object, _context: object) -> None:
    """Nor this one, and it would not be watched."""


class Callable_:  # noqa: N801 - not the one of typing
    """An object that can be called."""

    def __call__(self, _event: object, _context: object) -> None:
        """Nor this."""


called: Any = Callable_()
partial = functools.partial(plain, None)
