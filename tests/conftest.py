"""Checks after every test that nothing is left behind, and that records fit their schema."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from watchdog_lambda import _hooks, _log
from watchdog_lambda._engine.current import active, under_way
from watchdog_lambda.testing import isolated_hooks, timeout_records

from . import log_schema
from .support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


# A process that a shell starts in the background ignores Ctrl-C, and so do its children. The
# processes that are started here must not ignore it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def check_nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a hook or an open invocation.

    They are removed for the next test.
    """
    before = set(threading.enumerate())
    _log.said.clear()
    with isolated_hooks():
        yield
        try:
            eventually(lambda: set(threading.enumerate()) <= before, "threads to end")
            assert not under_way(), "an invocation has not been removed"
            assert not _hooks.shared.snapshot(), "a hook is still registered"
            assert not _hooks.staged, "a staged hook is still registered"
        finally:
            active.clear()


@pytest.fixture(autouse=True)
def check_records_against_schema() -> Iterator[None]:
    """Fail a test that writes a timeout's record which does not fit the reference's schema."""
    with timeout_records() as records:
        yield
    for record in records:
        log_schema.check_built(record)
