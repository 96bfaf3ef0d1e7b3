"""An event loop that waits for nothing: what it would wait has passed."""

from __future__ import annotations

import asyncio
import selectors
from _thread import get_ident
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class StillLoop(asyncio.SelectorEventLoop):
    """One of asyncio's, whose time stands still until it has nothing to do but to wait.

    An interrupt of `strikes` lands in each turn for which callbacks are queued: one that ends a run
    is among them.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.strikes: list[BaseException] = []
        super().__init__(_StillSelector(self))

    def time(self) -> float:
        return self.now

    def timers(self) -> list[asyncio.TimerHandle]:
        """Those that are yet to come."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [timer for timer in scheduled if not timer.cancelled()]


class _StillSelector(selectors.DefaultSelector):
    def __init__(self, loop: StillLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("the loop would wait for ever")
        if timeout == 0 and self._loop.strikes:
            raise self._loop.strikes.pop(0)
        self._loop.now += timeout
        return super().select(0)


@pytest.fixture
def still() -> Iterator[StillLoop]:
    """A loop of the kind, closed afterwards."""
    loop = StillLoop()
    yield loop
    loop.close()


BASE: Any = asyncio.BaseEventLoop


def clean_up(loop: Any) -> None:
    """As 3.13 and later do it."""
    loop._thread_id = None
    asyncio._set_running_loop(None)


@pytest.fixture
def cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of its own for the end of a run, where this Python has none."""
    if not hasattr(BASE, "_run_forever_cleanup"):
        monkeypatch.setattr(BASE, "_run_forever_cleanup", clean_up, raising=False)


def left_running(loop: Any) -> None:
    """As a run that an injection has ended at the first line of its cleanup."""
    loop._thread_id = get_ident()
    asyncio._set_running_loop(loop)
    assert loop.is_running()
