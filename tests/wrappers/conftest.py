"""Provides the environment with the other vendors' packages, or skips the tests."""

from __future__ import annotations

import pytest

from .harness import PYTHON


@pytest.fixture(autouse=True)
def environment() -> None:
    """Skip the tests without this environment. It takes half a minute and some forty packages."""
    if PYTHON is None:
        pytest.skip("python3 dev.py wrappers makes the environment for these, and runs them")
