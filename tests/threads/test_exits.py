"""Context managers whose exit waits again for what does not end."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND, Context, in_a_fork
from watchdog_lambda import LambdaTimeout, watch

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 0.8
LAST_CALL = 0.1


def pool(release: threading.Event) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait, BOUND).result()


def process(release: threading.Event) -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as child:

        def kill() -> None:
            release.wait(BOUND)
            child.kill()
            child.wait()

        threading.Thread(target=kill).start()
        child.wait()


@pytest.mark.parametrize("block", [pool, process], ids=lambda f: f.__name__)
def test_waiting_exit_is_interrupted_before_last_call(
    block: Callable[[threading.Event], None],
) -> None:
    """An ``__exit__`` that only waits is cut halfway to last call.

    The outer cleanups have the rest of the time.
    """
    release = threading.Event()
    cleaned: list[float] = []
    context = Context(GRACE * 4)

    @watch(grace_period=GRACE, last_call=LAST_CALL)
    def handler(_event: object, _context: object) -> None:
        try:
            block(release)
        finally:
            cleaned.append(context.get_remaining_time_in_millis() / 1000)

    try:
        with pytest.raises(LambdaTimeout):
            handler({}, context)
    finally:
        release.set()

    [left] = cleaned
    assert LAST_CALL * 1.5 < left < GRACE * 0.75


def test_exit_that_finishes_in_time_is_not_interrupted() -> None:
    """A pool whose work is nearly done can finish it in its ``__exit__``."""
    done: list[str] = []

    def work() -> None:
        threading.Event().wait(GRACE * 3.25)
        done.append("work")

    @watch(grace_period=GRACE, last_call=LAST_CALL)
    def handler(_event: object, _context: object) -> None:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(work)
            threading.Event().wait(BOUND)

    with pytest.raises(LambdaTimeout):
        handler({}, Context(GRACE * 4))

    assert done == ["work"]


def test_process_join_that_drops_timeout_error_is_interrupted() -> None:
    """``Process.join()`` drops a TimeoutError, so an interrupt of another kind ends it."""

    def scene() -> bytes:
        child = multiprocessing.get_context("fork").Process(target=signal.pause)
        went_on: list[bool] = []

        @watch(grace_period=0.05)
        def handler(_event: object, _context: object) -> str:
            child.join()
            went_on.append(True)
            return "the child has ended"

        # Not in the handler: interrupted in ``start()``, it would leave a child that cannot be
        # ended.
        child.start()
        try:
            handler({}, Context(0.4))
        except LambdaTimeout:
            return b"went on" if went_on else b"interrupted"
        finally:
            child.kill()
            child.join()
        return b"answered"

    assert in_a_fork(scene) == b"interrupted"
