"""A kernel timer that sends a signal to one thread, without anybody holding the GIL.

For the case that the watchdog thread cannot run at all: C code that holds the GIL (a catastrophic
regular expression, ``pow`` of big integers) but looks at signals. The watchdog sets the timer a
little beyond its own next wake-up whenever it goes to sleep; only if it does not wake in time does
the timer ring. An invocation pays nothing for it.

POSIX ``timer_create`` with Linux's ``SIGEV_THREAD_ID``, through ctypes. In libc from glibc 2.34 and
in musl, in librt before (Amazon Linux 2). Where it is not to be had, the watchdog does without.
"""

from __future__ import annotations

import math

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

    __slots__ = ("_settime", "_spec", "_stop", "_timer", "available", "is_set")

    def __init__(self, number: int | None, native_id: int, clock: int = CLOCK_MONOTONIC) -> None:
        self.available = False
        self.is_set = False
        if number is None:
            return
        try:
            import ctypes  # noqa: PLC0415 - preloaded; see WatchdogThread.preload

            libc = _library(ctypes)
        except (ImportError, OSError, AttributeError):
            return
        if ctypes.sizeof(ctypes.c_long) != 8:
            return  # the layouts below are those of 64-bit Linux

        class SigEvent(ctypes.Structure):
            _fields_ = (
                ("value", ctypes.c_void_p),
                ("signo", ctypes.c_int),
                ("notify", ctypes.c_int),
                ("thread_id", ctypes.c_int),
                ("padding", ctypes.c_char * 44),
            )

        four_longs = (
            ctypes.c_long * 4
        )  # struct itimerspec: interval, then value; seconds, nanoseconds
        self._timer: Any = ctypes.c_void_p()
        event = SigEvent(None, number, _SIGEV_THREAD_ID, native_id)
        if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(self._timer)):
            return
        self._settime: Any = libc.timer_settime
        self._settime.argtypes = (
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.POINTER(four_longs),
            ctypes.c_void_p,
        )
        self._spec: Any = four_longs
        self._stop: Any = four_longs()
        self.available = True

    def set(self, seconds: float, interval: float) -> None:
        """Ring in `seconds` from now and every `interval` after that; in infinity: not at all."""
        if seconds == math.inf:
            self.stop()
            return
        # A new one each time: two threads may set it, and one that is shared could be torn.
        spec = self._spec(*_split(interval), *_split(max(seconds, 1e-6)))
        self._settime(self._timer, 0, spec, None)
        self.is_set = True

    def stop(self) -> None:
        """Ring no more; nothing, if it was not set."""
        if self.is_set:
            self.is_set = False
            self._settime(self._timer, 0, self._stop, None)


def _split(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * 1e9)


def _library(ctypes: Any) -> Any:
    # PyDLL: the calls take no time worth releasing the GIL for.
    libc = ctypes.PyDLL(None)
    return libc if hasattr(libc, "timer_create") else ctypes.PyDLL("librt.so.1")


def handler_addresses() -> Callable[[int], int | None]:
    """What tells where the kernel finds a signal's handler; None for the default action.

    For whoever has a timer: :func:`signal.getsignal` knows only of handlers that are Python's.
    """
    import ctypes  # noqa: PLC0415 - the timer has imported it

    # PyDLL: the call takes no time worth releasing the GIL for.
    sigaction = ctypes.PyDLL(None).sigaction
    room = ctypes.c_void_p * 32

    def address_of(number: int) -> int | None:
        # struct sigaction begins with it, in glibc and musl, on x86_64 and arm64, and is shorter.
        told = room()
        sigaction(number, None, told)
        address: int | None = told[0]
        return address

    return address_of
