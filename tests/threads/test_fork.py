"""Forks in a watched handler: the parent is still watched, and the child is a new process.

Each scene runs in a process that was forked from this one, so that it starts with no watchdog
thread and no other thread either.
"""

from __future__ import annotations

import os
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import Context, block, in_a_fork
from watchdog_lambda import Interrupt, LambdaTimeout, shutdown_hook, watch
from watchdog_lambda._engine.current import under_way
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

# From Python 3.12 on a fork in a process with a second thread warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def play(scene: Callable[[], object]) -> None:
    """Run a scene in a child with one thread, and fail if it fails."""

    def child() -> bytes:
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            scene()
        except BaseException:
            return traceback.format_exc().encode()
        return b"played"

    said = in_a_fork(child).decode()
    assert said == "played", said


def fork() -> int:
    """Fork a child that ends at once, and reap it."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_parent_keeps_the_same_watchdog_thread() -> None:
    """One watchdog thread watches a handler that forks ten times."""

    def scene() -> None:
        threads: set[int | None] = set()

        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            for _ in range(10):
                fork()
                threads.add(process_watchdog._thread_id)
            block()

        with pytest.raises(LambdaTimeout):
            handler({}, Context(1.0))
        assert len(threads) == 1
        assert None not in threads

    play(scene)


def test_child_has_no_invocation_and_can_watch_its_own() -> None:
    """A forked child has no invocation and no watchdog thread until it watches a handler."""

    def child() -> bytes:
        try:
            assert not under_way()
            assert process_watchdog._thread_id is None
            assert [p.name for p in Path("/proc/self/task").iterdir()] == [str(os.getpid())]

            watch(grace_period=0.02)(lambda _e, _c: block())({}, Context(0.1))
        except LambdaTimeout:
            return b"watched"
        except BaseException:
            return traceback.format_exc().encode()
        return b"not watched"

    def scene() -> None:
        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            said = in_a_fork(child).decode()
            assert said == "watched", said
            block()

        with pytest.raises(LambdaTimeout):
            handler({}, Context(0.6))

    play(scene)


def test_timeout_continues_after_a_fork() -> None:
    """After a fork the next interrupt lands, and the hooks do not run again."""

    def scene() -> None:
        hooks: list[int] = []
        shutdown_hook(lambda details: hooks.append(1))

        @watch(grace_period=0.2)
        def handler(_event: object, _context: object) -> None:
            try:
                block()
            except LambdaTimeout:
                pass
            fork()
            try:
                block()
            except Interrupt:
                hooks.append(2)
                raise

        with pytest.raises(LambdaTimeout):
            handler({}, Context(0.8))
        assert hooks == [1, 2]

    play(scene)


def test_handler_that_forks_in_a_loop_is_interrupted() -> None:
    """A handler that forks all the time is interrupted before last call.

    The code that CPython and this package run around a fork defers no interrupt for long.
    """

    def scene() -> None:
        begun: list[float] = []

        def handler(_event: object, _context: object) -> None:
            begun.append(process_watchdog.clock.monotonic())
            while True:
                fork()

        with pytest.raises(LambdaTimeout):
            watch(grace_period=0.4, last_call=0.1)(handler)({}, Context(1.6))
        assert process_watchdog.clock.monotonic() < begun[0] + 1.5

    play(scene)
