"""What no loop may leave behind; nothing here is the package's."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

PATIENCE = 1.0
"""Seconds for a thread that has been started to end."""


class Resource:
    """Something to enter and to leave, which counts how often either was done to the end."""

    def __init__(self) -> None:
        self.entered = 0
        self.left = 0

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_: object) -> None:
        self.left += 1

    async def __aenter__(self) -> None:
        await asyncio.sleep(0)
        self.entered += 1

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self.left += 1

    def acquire(self) -> None:
        self.entered += 1

    def release(self) -> None:
        self.left += 1


class Loop:
    """One handler's loop, and what may not be left behind by it."""

    def __init__(self) -> None:
        self.resource = Resource()
        self.lock = threading.Lock()
        self.wrong: list[str] = []
        self._others = set(threading.enumerate())

    def verdict(self) -> list[str]:
        """What is wrong once the invocation is over."""
        wrong = list(self.wrong)
        if self.resource.entered != self.resource.left:
            wrong.append(f"{self.resource.entered} entered, {self.resource.left} left")
        if self.lock.locked():
            wrong.append("the lock is locked")
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            wrong.append("another SIGINT handler is still set")
        until = time.monotonic() + PATIENCE  # one that has not had its turn yet is listed
        while self._started() and time.monotonic() < until:
            time.sleep(0.001)
        if self._started():
            wrong.append("a thread is listed that has ended")
        return wrong

    def _started(self) -> set[threading.Thread]:
        # Without threads that have only logged: a lost task's finaliser can run on the watchdog's.
        return {t for t in threading.enumerate() if type(t) is threading.Thread} - self._others
