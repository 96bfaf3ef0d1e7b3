"""Hooks that come and go while an invocation's stages are under way."""

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
    """The stages of a test's own watchdogs go with it."""
    with isolated_hooks():
        yield


def ignore(_details: TimeoutDetails) -> None:
    """Do nothing, but have a stage."""


def test_the_hooks_of_a_stage_are_those_of_its_beginning() -> None:
    """A block that ended after an early stage has no hook any more; one entered since has."""
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


def test_a_stage_that_is_registered_after_an_earlier_one_comes() -> None:
    """In its own time."""
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


def test_a_stage_that_has_begun_does_not_begin_again() -> None:
    """Not for a hook that has come too late for it either."""
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
