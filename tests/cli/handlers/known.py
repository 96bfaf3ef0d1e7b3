"""A handler whose module imports clients that recover: a known one and one of its own."""

from __future__ import annotations

import sys
import types

from watchdog_lambda import recovers

for name in ("redis", "mylib", "pymysql"):
    sys.modules[name] = types.ModuleType(name)
recovers("mylib")


def handler(_event: object, _context: object) -> None:
    """A handler that a check never calls."""
