"""The kernel's timer where there is none; that it rings is shown in tests/threads."""

from __future__ import annotations

import ctypes
import math
import signal
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda._cpython import timers
from watchdog_lambda._cpython.timers import ThreadTimer, _library, _split


def made(number: int | None = signal.SIGURG) -> ThreadTimer:
    return ThreadTimer(number, threading.get_native_id())


def test_without_a_signal_there_is_none() -> None:
    """Nothing to ring with; to stop it is no error."""
    timer = made(None)

    timer.stop()

    assert not timer.available


def test_without_ctypes_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in isolated sub-interpreters."""
    monkeypatch.setitem(sys.modules, "ctypes", None)

    assert not made().available


@pytest.mark.parametrize("error", [OSError("no librt.so.1"), AttributeError("timer_create")])
def test_without_the_librarys_function_there_is_none(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever C library it is."""

    def fail(_ctypes: object) -> None:
        raise error

    monkeypatch.setattr(timers, "_library", fail)

    assert not made().available


def test_on_a_machine_of_32_bits_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The structures are laid out for 64."""
    monkeypatch.setattr(ctypes, "sizeof", lambda _kind: 4)

    assert not made().available


def test_what_the_kernel_refuses_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where too many signals are queued."""
    refusing = SimpleNamespace(timer_create=lambda *_given: -1)
    monkeypatch.setattr(timers, "_library", lambda _ctypes: refusing)

    assert not made().available


def test_the_function_is_in_librt_before_glibc_2_34() -> None:
    """Only where the C library has it not."""
    opened: list[str | None] = []

    def library(name: str | None) -> Any:
        opened.append(name)
        return SimpleNamespace() if name is None else SimpleNamespace(timer_create=len)

    old: Any = _library(SimpleNamespace(PyDLL=library))
    assert old.timer_create is len
    assert opened == [None, "librt.so.1"]

    new = SimpleNamespace(timer_create=max)
    assert _library(SimpleNamespace(PyDLL=lambda _name: new)) is new


def test_in_infinity_means_not_at_all() -> None:
    """One that was set rings no more."""
    timer = made()
    asked: list[list[int]] = []
    timer._settime = lambda timers, _flags, spec, _old: asked.append(list(spec))

    timer.set(math.inf, 0.01)
    assert asked == []
    timer.set(2.5, 0.01)
    timer.set(math.inf, 0.01)
    timer.set(0.0, 0.0)

    assert asked == [[0, 10_000_000, 2, 500_000_000], [0, 0, 0, 0], [0, 0, 0, 1000]]


def test_seconds_are_split_as_the_kernel_has_them() -> None:
    """Whole ones, and nanoseconds."""
    assert _split(3.25) == (3, 250_000_000)
    assert _split(0.0) == (0, 0)
