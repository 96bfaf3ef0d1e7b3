"""Interrupts of a handler that is as deep as the interpreter allows."""

from __future__ import annotations

import sys
import threading

import pytest

from tests.support import BOUND, Context, block
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
def test_interrupt_lands_near_the_recursion_limit(frames: int) -> None:
    """The interrupt lands where fewer frames are left than the decision needs.

    The handler does not get a RecursionError of the package's.
    """
    limit = sys.getrecursionlimit()

    @watch(grace_period=0.05)
    def handler(_event: object, _context: object) -> None:
        block_at(depth_left() - frames)

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.2))

    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("is_main", [True, False])
@pytest.mark.parametrize("frames", [2, 3, 4, 6, 8, 12, 20])
def test_interrupt_lands_near_the_recursion_limit_in_computing_thread(
    frames: int, *, is_main: bool
) -> None:
    """The interrupt lands in a deep thread that computes, which is traced to a safe point."""
    limit = sys.getrecursionlimit()
    errors: list[BaseException] = []

    def compute_at(depth: int) -> None:
        if depth:
            compute_at(depth - 1)
        while True:
            pass

    @watch(grace_period=0.05)
    def handler(_event: object, _context: object) -> None:
        compute_at(depth_left() - frames)

    def work() -> None:
        try:
            handler({}, Context(0.2))
        except BaseException as error:
            errors.append(error)

    if is_main:
        work()
    else:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join(BOUND)

    assert [type(error) for error in errors] == [LambdaTimeout]
    assert sys.getrecursionlimit() == limit


def test_endless_recursion_raises_the_handlers_own_error() -> None:
    """A handler in endless recursion gets its own RecursionError, long before the timeout."""

    @watch
    def handler(_event: object, _context: object) -> None:
        def dive() -> None:
            dive()

        dive()

    with pytest.raises(RecursionError):
        handler({}, Context(5.0))
