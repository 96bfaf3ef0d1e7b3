"""Rules for every test: no thread outlives it, no hook and no invocation stays behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from watchdog_lambda import _api, _hooks
from watchdog_lambda._invocation import active

from .support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a hook or an open invocation to the next one."""
    before = set(threading.enumerate())
    yield
    eventually(lambda: set(threading.enumerate()) <= before, "threads to end")
    assert not active, "an invocation has not been removed"
    assert not _api._hooks.snapshot(), "a hook is still registered"
    assert not _hooks.staged, "a staged hook is still registered"
