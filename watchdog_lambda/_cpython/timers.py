"""A kernel timer that sends a signal to one thread, without anybody holding the GIL.

For the case that the watchdog thread cannot run at all: C code that holds the GIL (a catastrophic
regular expression, ``pow`` of big integers) but looks at signals. The watchdog sets the timer a
little beyond its own next wake-up whenever it goes to sleep; only if it does not wake in time does
the timer ring. An invocation pays nothing for it.

POSIX ``timer_create`` with Linux's ``SIGEV_THREAD_ID``. In libc from glibc 2.34 and in musl, in
librt before (Amazon Linux 2). Where it is not to be had, the watchdog does without.
"""

from __future__ import annotations

import math
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CLOCK_MONOTONIC = 1
CLOCK_THREAD_CPUTIME = 3
"""Seconds for which the thread that makes the timer has a processor."""

_SIGEV_THREAD_ID = 4


class ThreadTimer:
    """Signals `number` to the thread `native_id` from an instant on, again and again.

    ``available`` is False where the system has no such timer.

    Thread: any, once made; the last to set it wins.
    """

    __slots__ = ("_settime", "_timer", "available", "is_set")

    def __init__(self, number: int | None, native_id: int, clock: int = CLOCK_MONOTONIC) -> None:
        self.available = False
        self.is_set = False
        if number is None:
            return
        try:
            from . import libc  # noqa: PLC0415 - preloaded; see process_watchdog.preload

            create = _function(libc, "timer_create", libc.Int, libc.Bytes, libc.Pointer)
            settime = _function(
                libc, "timer_settime", libc.Pointer, libc.Int, libc.Bytes, libc.Pointer
            )
        except (ImportError, OSError):
            return
        if not libc.IS_64_BIT:
            return
        # struct sigevent: a value, the signal, how to notify, the thread, and padding.
        fields = ((0, 8), (number, 4), (_SIGEV_THREAD_ID, 4), (native_id, 4), (0, 44))
        event = b"".join(value.to_bytes(size, sys.byteorder) for value, size in fields)
        made = libc.Words()
        if create(clock, event, libc.address(made)):
            return
        self._timer: int = made[0]
        self._settime: Callable[..., int] = settime
        self.available = True

    def set(self, seconds: float, interval: float) -> None:
        """Ring in `seconds` from now and every `interval` after that; in infinity: not at all."""
        if seconds == math.inf:
            self.stop()
            return
        self._settime(self._timer, 0, _spec(interval, max(seconds, 1e-6)), None)
        self.is_set = True

    def stop(self) -> None:
        """Ring no more; nothing, if it was not set."""
        if self.is_set:
            self.is_set = False
            self._settime(self._timer, 0, _STOPPED, None)


def _spec(interval: float, seconds: float) -> bytes:
    """A ``struct itimerspec``: interval, then value; each in whole seconds and nanoseconds."""
    return b"".join(
        part.to_bytes(8, sys.byteorder)
        for span in (interval, seconds)
        for part in (int(span), int(span % 1 * 1e9))
    )


_STOPPED = bytes(32)


def _function(libc: Any, name: str, *argument_types: object) -> Callable[..., int]:
    try:
        found: Callable[..., int] = libc.function(name, *argument_types)
    except OSError:  # glibc before 2.34
        found = libc.function(name, *argument_types, library="librt.so.1")
    return found


def handler_addresses() -> Callable[[int], int | None]:
    """What tells where the kernel finds a signal's handler; None for the default action.

    For code that has a timer: :func:`signal.getsignal` knows only of handlers that are Python's.
    """
    from . import libc  # noqa: PLC0415 - the timer has imported it

    sigaction = libc.function("sigaction", libc.Int, libc.Pointer, libc.Pointer)

    def address_of(number: int) -> int | None:
        # struct sigaction begins with it, in glibc and musl, on x86_64 and arm64, and is shorter.
        told = libc.Words()
        sigaction(number, None, libc.address(told))
        return told[0] or None

    return address_of
