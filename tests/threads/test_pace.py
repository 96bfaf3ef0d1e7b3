"""The switch interval: short while a timeout is under way, the program's own before and after."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import Context, block, eventually
from watchdog_lambda import LambdaTimeout, Watchdog
from watchdog_lambda._cpython.pace import QUICK
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = 0.02


@pytest.fixture(autouse=True)
def own_interval() -> Iterator[None]:
    """Give the program an interval of its own."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(OWN)
    yield
    sys.setswitchinterval(before)


def test_switch_interval_is_short_only_during_a_timeout() -> None:
    """The interval is short in the hooks and in the cleanup, and the program's own otherwise."""
    seen: list[float] = []
    watchdog = Watchdog(grace_period=0.2)
    watchdog.shutdown_hook(lambda _details: seen.append(sys.getswitchinterval()))

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        seen.append(sys.getswitchinterval())
        try:
            block()
        finally:
            seen.append(sys.getswitchinterval())

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.8))
    eventually(lambda: not process_watchdog.escalations, "the watchdog to finish")
    eventually(lambda: sys.getswitchinterval() == OWN, "the interval to be restored")

    assert seen == [OWN, QUICK, QUICK]


def test_switch_interval_is_restored_after_an_early_stage() -> None:
    """After an early stage's hooks the interval is the program's own again.

    A warning long before the deadline does not shorten it for the rest of the invocation.
    """
    ran: list[float] = []
    watchdog = Watchdog(grace_period=0.1)
    watchdog.shutdown_hook(before=1.9)(lambda _details: ran.append(sys.getswitchinterval()))

    @watchdog.watch
    def handler(_event: object, _context: object) -> float:
        eventually(lambda: bool(ran), "the early hook to run")
        eventually(lambda: sys.getswitchinterval() == OWN, "the interval to be restored")
        return sys.getswitchinterval()

    try:
        assert handler({}, Context(2.0)) == OWN
    finally:
        for hook in watchdog._hooks.snapshot():
            watchdog._hooks.remove(hook.key)
    assert ran == [QUICK]
