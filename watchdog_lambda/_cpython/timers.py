"""A kernel timer that sends a signal to one thread, without needing the GIL.

It is for the case that the watchdog thread cannot run at all, because C code holds the GIL (a
catastrophic regular expression, ``pow`` of big integers) but checks for signals. Whenever the
watchdog goes to sleep, it sets the timer slightly later than its own next wake-up. The timer rings
only if the watchdog does not wake in time, so an invocation pays nothing for it.

It uses POSIX ``timer_create`` with Linux's ``SIGEV_THREAD_ID``, which is in libc from glibc 2.34 on
and in musl, and in librt before (Amazon Linux 2). If it is not available, the watchdog does
without.
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
"""The CPU time of the thread that creates the timer."""

_SIGEV_THREAD_ID = 4


class ThreadTimer:
    """Sends the signal `number` to the thread `native_id`, once or repeatedly.

    ``available`` is False if the system has no such timer.

    Thread: any, once created; the last call of :meth:`set` wins.
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
        """Ring in `seconds` from now, and every `interval` after that; never, if infinity."""
        if seconds == math.inf:
            self.stop()
            return
        self._settime(self._timer, 0, _spec(interval, max(seconds, 1e-6)), None)
        self.is_set = True

    def stop(self) -> None:
        """Stop ringing, if it was set."""
        if self.is_set:
            self.is_set = False
            self._settime(self._timer, 0, _STOPPED, None)


def _spec(interval: float, seconds: float) -> bytes:
    """Pack a ``struct itimerspec``: interval, then value, each in seconds and nanoseconds."""
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
    """Return a function that asks the kernel for the address of a signal's handler.

    It returns None for the default action. :func:`signal.getsignal` knows only Python's handlers.
    Call this only if there is a timer.
    """
    from . import libc  # noqa: PLC0415 - the timer has imported it

    sigaction = libc.function("sigaction", libc.Int, libc.Pointer, libc.Pointer)

    def address_of(number: int) -> int | None:
        # struct sigaction fits, and begins with the address, in glibc and musl, on both machines.
        told = libc.Words()
        sigaction(number, None, libc.address(told))
        return told[0] or None

    return address_of
