"""Where the kernel's timer is not available; that it rings is shown in tests/threads."""

from __future__ import annotations

import math
import signal
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

from watchdog_lambda import _cpython
from watchdog_lambda._cpython import libc
from watchdog_lambda._cpython.timers import ThreadTimer, _spec

if TYPE_CHECKING:
    import pytest


def made(number: int | None = signal.SIGURG) -> ThreadTimer:
    return ThreadTimer(number, threading.get_native_id())


def test_timer_is_unavailable_without_a_signal() -> None:
    """Without a signal the timer is not available, and stopping it is no error."""
    timer = made(None)

    timer.stop()

    assert not timer.available


def test_timer_is_unavailable_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ctypes, as in isolated sub-interpreters, the timer is not available."""
    monkeypatch.delitem(sys.modules, "watchdog_lambda._cpython.libc")
    monkeypatch.delattr(_cpython, "libc")
    monkeypatch.setitem(sys.modules, "_ctypes", None)

    assert not made().available


def test_timer_is_unavailable_without_c_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no C library has the function, the timer is not available."""

    def fail(_name: str, *_types: object, library: str | None = None) -> Any:
        raise OSError(library)

    monkeypatch.setattr(libc, "function", fail)

    assert not made().available


def test_timer_is_unavailable_on_32_bit_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a 32-bit machine the timer is not available, as the structures are laid out for 64."""
    monkeypatch.setattr(libc, "IS_64_BIT", False)

    assert not made().available


def test_timer_is_unavailable_if_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel refuses, as with too many queued signals, the timer is not available."""
    monkeypatch.setattr(libc, "function", lambda _name, *_types: lambda *_given: -1)

    assert not made().available


def test_librt_is_tried_after_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before glibc 2.34 the functions are in librt, which is asked after the C library."""
    asked: list[tuple[str, str | None]] = []

    def function(name: str, *_types: object, library: str | None = None) -> Any:
        asked.append((name, library))
        if library is None:
            raise OSError(name)
        return lambda *_given: 0

    monkeypatch.setattr(libc, "function", function)

    assert made().available
    assert asked == [
        ("timer_create", None),
        ("timer_create", "librt.so.1"),
        ("timer_settime", None),
        ("timer_settime", "librt.so.1"),
    ]


def test_infinite_time_stops_the_timer() -> None:
    """Setting the timer to infinity stops it, and calls nothing if it was not set."""
    timer = made()
    asked: list[tuple[int, ...]] = []

    def settime(_timer: int, _flags: int, spec: bytes, _old: None) -> int:
        asked.append(struct.unpack("=4q", spec))
        return 0

    timer._settime = settime

    timer.set(math.inf, 0.01)
    assert asked == []
    timer.set(2.5, 0.01)
    timer.set(math.inf, 0.01)
    timer.set(0.0, 0.0)

    assert asked == [(0, 10_000_000, 2, 500_000_000), (0, 0, 0, 0), (0, 0, 0, 1000)]


def test_seconds_are_split_into_seconds_and_nanoseconds() -> None:
    """Seconds are split into whole ones and nanoseconds, after the interval."""
    assert struct.unpack("=4q", _spec(0.0, 3.25)) == (0, 0, 3, 250_000_000)
