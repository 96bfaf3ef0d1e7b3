"""The environment with the clients, and the servers, or a reason to skip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.stacks.outcomes import PYTHON
from benchmarks.stacks.servers import available, started

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def ports() -> Iterator[dict[str, int]]:
    """The ports of the servers that can be had here."""
    if PYTHON is None:
        pytest.skip("python3 dev.py stacks test makes the environment for these, and runs them")
    with started(available()) as ports:
        yield ports
