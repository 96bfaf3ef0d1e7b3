"""Timeouts beyond the hard deadline, where Lambda does not kill (Managed Instances)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND, Context
from watchdog_lambda import LambdaTimeout, shield, watch
from watchdog_lambda._engine.interrupts import LATE_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 0.4


def hang() -> None:
    """Hang in short waits, because an injection lands only between them."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        threading.Event().wait(0.001)
    raise AssertionError("no interrupt landed in time")


def call_here(call: Callable[[], None]) -> None:
    call()


def call_elsewhere(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@pytest.mark.parametrize("run", [call_here, call_elsewhere])
def test_hanging_cleanup_after_last_call_is_interrupted(
    run: Callable[[Callable[[], None]], None],
) -> None:
    """A cleanup of last call's interrupt is interrupted as well if it hangs too long.

    Otherwise the worker would be lost.
    """
    outcomes: list[float | BaseException] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        try:
            with shield():
                hang()
        finally:
            hang()

    def call() -> None:
        began = time.monotonic()
        try:
            handler({}, Context(SECONDS))
        except BaseException as error:
            outcomes.append(error)
        outcomes.append(time.monotonic() - began)

    run(call)

    error, seconds = outcomes
    assert isinstance(error, LambdaTimeout)
    assert isinstance(seconds, float)
    assert seconds >= SECONDS + LATE_PATIENCE
