"""Provides the environment with the clients, and the servers that the chosen tests need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.stacks.cases import load
from benchmarks.stacks.servers import PYTHON, available, started

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def ports(request: pytest.FixtureRequest) -> Iterator[dict[str, int]]:
    """Return the ports of the servers that this machine has."""
    if not PYTHON:
        pytest.skip("python3 dev.py stacks test makes the environment for these, and runs them")
    names = {
        item.callspec.params.get("name")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    wanted = {case.server for name, case in load().items() if name in names and case.server}
    with started(wanted & available()) as ports:
        yield ports
