"""An event loop whose clock advances only when it would wait, and then without waiting."""

from __future__ import annotations

import asyncio
import selectors
from _thread import get_ident
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda._cpython import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator


class StillLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock stands still until the loop has nothing to do but wait.

    An interrupt of `strikes` lands in each turn for which callbacks are queued, including the
    callback that ends a run.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.strikes: list[BaseException] = []
        super().__init__(_StillSelector(self))

    def time(self) -> float:
        return self.now

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that have not been cancelled."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [timer for timer in scheduled if not timer.cancelled()]


class _StillSelector(selectors.DefaultSelector):
    def __init__(self, loop: StillLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("the loop would wait forever")
        if timeout == 0 and self._loop.strikes:
            raise self._loop.strikes.pop(0)
        self._loop.now += timeout
        return super().select(0)


@pytest.fixture
def still() -> Iterator[StillLoop]:
    """Return such a loop, and close it afterwards, with what a test has left unended."""
    loop = StillLoop()
    yield loop
    loop.close()
    # Otherwise they would be closed at the interpreter's exit, when the tests' names are gone.
    for parked in tasks._parked:
        if isinstance(parked, asyncio.Task):
            parked.get_coro().close()
    tasks._parked.clear()


BASE: Any = asyncio.BaseEventLoop


def clean_up(loop: Any) -> None:
    """Clean up after a run, as 3.13 and later do."""
    loop._thread_id = None
    asyncio._set_running_loop(None)


@pytest.fixture
def cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the loop a separate function for the end of a run, where this Python has none."""
    if not hasattr(BASE, "_run_forever_cleanup"):
        monkeypatch.setattr(BASE, "_run_forever_cleanup", clean_up, raising=False)


def left_running(loop: Any) -> None:
    """Leave the loop as a run does that an injection has ended at the first line of its cleanup."""
    loop._thread_id = get_ident()
    asyncio._set_running_loop(loop)
    assert loop.is_running()
