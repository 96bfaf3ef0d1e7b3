"""What the watchdog's start has imported, for tests of parts that are used without one."""

from __future__ import annotations

import pytest

from watchdog_lambda._cpython import clauses


@pytest.fixture(autouse=True)
def preloaded() -> None:
    """Have the instructions' names, which frames are read by."""
    clauses.preload()
