"""A handler with all that a check looks at: hooks, a stage, and options in its code."""

from __future__ import annotations

import functools
from typing import Any

from watchdog_lambda import sandbox_shutdown_hook, shutdown_hook, watch

print("imported")


@shutdown_hook
def flush(_details: object) -> None:
    """A hook at the grace period."""


@shutdown_hook(before=10.0)
def warn(_details: object) -> None:
    """A hook in a stage of its own."""


@sandbox_shutdown_hook
def close_pool() -> None:
    """A hook that never runs without SIGTERM=1."""


@watch(grace_period=2.0, last_resort="exit")
async def handler(_event: object, _context: object) -> None:
    """A handler that a check never calls."""


def plain(_event: object, _context: object) -> None:
    """A plain handler that a check never calls."""


@watch(disabled=True)
def off(_event: object, _context: object) -> None:
    """A disabled handler that a check never calls."""


class Callable_:  # noqa: N801 - not the one of typing
    """A class whose instances can be called."""

    def __call__(self, _event: object, _context: object) -> None:
        """A handler that a check never calls."""


called: Any = Callable_()
partial = functools.partial(plain, None)
