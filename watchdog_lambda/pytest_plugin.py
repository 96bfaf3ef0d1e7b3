"""pytest fixtures for tests of handlers. pytest finds this plugin by its entry point.

Their names begin with ``watchdog_``, so that they do not replace a project's own fixtures: many
projects have a ``lambda_context`` in their conftest.py. No fixture is used automatically. Until one
is used, only the package itself is imported, which takes some 3 ms, and nothing of it runs.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .testing import Clock, FakeContext


@pytest.fixture
def watchdog_context() -> FakeContext:
    """A Lambda context with a timeout of 30 s, on the clock that a test can move.

    For another timeout or name use ``watchdog_lambda.testing.FakeContext(3.0)``.
    """
    from .testing import FakeContext  # noqa: PLC0415

    return FakeContext()


@pytest.fixture
def watchdog_clock() -> Clock:
    """The clock: ``watchdog_clock.advance(25.0)`` in a handler lets 25 s pass without waiting."""
    from .testing import clock  # noqa: PLC0415

    return clock


@pytest.fixture
def watchdog_timeouts() -> Iterator[list[dict[str, Any]]]:
    """The records of this test's timeouts: a list of dicts, each as it goes to the log.

    A record is in the list once the handler has returned or raised.
    """
    from .testing import timeout_records  # noqa: PLC0415

    with timeout_records() as records:
        yield records


@pytest.fixture
def watchdog_hooks() -> Iterator[None]:
    """Removes the shutdown hooks that this test registers, at its end.

    Import the module under test at the top of the test file: its hooks are registered only once.
    """
    from .testing import isolated_hooks  # noqa: PLC0415

    with isolated_hooks():
        yield
