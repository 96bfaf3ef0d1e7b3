"""Loads what the watchdog's start would load, for tests of parts that are used without one."""

from __future__ import annotations

import pytest

from watchdog_lambda._cpython import clauses


@pytest.fixture(autouse=True)
def preloaded() -> None:
    """Load the table of instruction names, with which frames are read."""
    clauses.preload()
