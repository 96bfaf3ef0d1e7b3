"""An injection at the end of a loop's run does not prevent later runs in the thread."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context
from watchdog_lambda import LambdaTimeout, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

pytestmark = [
    pytest.mark.skipif(
        not hasattr(asyncio.BaseEventLoop, "_run_forever_cleanup"),
        reason="this Python has no separate function for the end of a run",
    ),
    pytest.mark.untraced,
]


class Gate:
    """Holds a thread at the beginning of a run's cleanup, until an interrupt lands there."""

    def __init__(self) -> None:
        self._cleanup: Any = asyncio.BaseEventLoop._run_forever_cleanup  # type: ignore[attr-defined]
        self._has_begun = False
        self.has_landed = False

    def set(self) -> None:
        sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> None:
        if frame.f_code is self._cleanup.__code__ and event == "call" and not self._has_begun:
            self._has_begun = self.has_landed = True
            until = time.monotonic() + BOUND
            while time.monotonic() < until:
                pass  # what is raised here continues in the traced frame
            self.has_landed = False


def on_another_thread(call: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def test_async_handler_loop_can_run_again() -> None:
    """An async handler that had ended gives its answer, and the next one runs on the same loop."""
    gate = Gate()
    loops: list[object] = []

    @watch
    async def handler(event: str, _context: object) -> str:
        loops.append(asyncio.get_running_loop())
        if event == "late":
            gate.set()
        return event

    def calls() -> None:
        assert handler("late", Context(1)) == "late"
        assert gate.has_landed
        assert handler("next", Context(BOUND)) == "next"

    on_another_thread(calls)

    assert loops[0] is loops[1]


# asyncio.run() cannot run this coroutine in such a loop.
@pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop.shutdown_asyncgens':RuntimeWarning")
def test_asyncio_run_works_again_after_interrupted_run() -> None:
    """After an interrupt at the end of its run, ``asyncio.run`` works in the same thread."""
    gate = Gate()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> str:
        loops.append(asyncio.get_running_loop())
        return "ran"

    @watch
    def handler(event: str, _context: object) -> str:
        if event == "late":
            gate.set()
        return asyncio.run(main())

    def calls() -> None:
        with pytest.raises(LambdaTimeout):
            handler("late", Context(1))
        assert gate.has_landed
        assert not loops[0].is_running()
        loops[0].close()  # asyncio.run() could not do this
        assert handler("next", Context(BOUND)) == "ran"

    on_another_thread(calls)
