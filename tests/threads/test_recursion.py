"""A handler that is as deep as the interpreter allows when its interrupt is due."""

from __future__ import annotations

import sys

import pytest

from tests.support import Context, block
from watchdog_lambda import LambdaTimeout, watch


def depth_left(depth: int = 0) -> int:
    try:
        return depth_left(depth + 1)
    except RecursionError:
        return depth


def block_at(depth: int) -> None:
    if depth:
        block_at(depth - 1)
    else:
        block()


@pytest.mark.parametrize("frames", [6, 7, 8, 10, 12, 16, 20, 30, 50])
def test_the_interrupt_lands_near_the_recursion_limit(frames: int) -> None:
    """A few frames are left, fewer than the decision needs: no RecursionError of ours comes out."""
    limit = sys.getrecursionlimit()

    @watch(grace_period=0.05)
    def handler(_event: object, _context: object) -> None:
        block_at(depth_left() - frames)

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.2))

    assert sys.getrecursionlimit() == limit


def test_a_handler_in_endless_recursion_keeps_its_own_error() -> None:
    """Its RecursionError is its own, and comes long before the timeout."""

    @watch
    def handler(_event: object, _context: object) -> None:
        def dive() -> None:
            dive()

        dive()

    with pytest.raises(RecursionError):
        handler({}, Context(5.0))
