"""Tests of hooks that are registered and removed while an invocation's stages run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from watchdog_lambda import LambdaTimeout, Watchdog, scoped_hook
from watchdog_lambda.testing import FakeContext, clock, expire, isolated_hooks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog_lambda import TimeoutDetails


@pytest.fixture(autouse=True)
def own_hooks() -> Iterator[None]:
    """Remove the stages with the watchdogs that a test has made."""
    with isolated_hooks():
        yield


def ignore(_details: TimeoutDetails) -> None:
    """Do nothing; the hook is needed for its stage."""


def test_stage_has_the_hooks_that_exist_when_it_begins() -> None:
    """A stage has the hooks that exist when it begins.

    The hook of a block that has ended since an earlier stage is left out, and that of a block
    entered since is included.
    """
    ran: list[str] = []
    watchdog = Watchdog()
    watchdog.shutdown_hook(before=10.0)(ignore)

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        with scoped_hook(ran.append, "of a block that has ended"):
            clock.advance(21.0)
        with scoped_hook(ran.append, "of the block that is under way"):
            expire()

    with pytest.raises(LambdaTimeout):
        handler({}, FakeContext(30.0))

    assert ran == ["of the block that is under way"]


def test_stage_registered_after_an_earlier_one_runs() -> None:
    """A stage that is registered after an earlier one has run begins at its own time."""
    ran: list[tuple[str, int]] = []
    watchdog = Watchdog()
    watchdog.shutdown_hook(before=10.0)(lambda d: ran.append(("first", round(d.elapsed))))

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        clock.advance(21.0)
        watchdog.shutdown_hook(before=5.0)(lambda d: ran.append(("late", round(d.elapsed))))
        clock.advance(5.0)
        expire()

    with pytest.raises(LambdaTimeout):
        handler({}, FakeContext(30.0))

    assert ran == [("first", 20), ("late", 25)]


def test_begun_stage_does_not_begin_again() -> None:
    """A stage that has begun does not begin again for a hook that is registered later."""
    ran: list[str] = []
    watchdog = Watchdog()
    watchdog.shutdown_hook(before=10.0)(lambda _details: ran.append("in time"))

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        clock.advance(21.0)
        watchdog.shutdown_hook(before=10.0)(lambda _details: ran.append("too late"))
        expire()

    with pytest.raises(LambdaTimeout):
        handler({}, FakeContext(30.0))

    assert ran == ["in time"]
