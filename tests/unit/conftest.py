"""Loads and restores what the watchdog would, for tests of parts that are used without one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from watchdog_lambda._cpython import clauses

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def preloaded() -> None:
    """Load the table of instruction names, with which frames are read."""
    clauses.preload()


@pytest.fixture(autouse=True)
def recursion_limit() -> Iterator[None]:
    """Restore the recursion limit, which a firing raises that a test begins and does not settle."""
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)
