"""Whether the main thread is blocked, as the kernel's files show it."""

from __future__ import annotations

import os
import threading
import time

import pytest

from tests.support import BOUND, eventually
from watchdog_lambda._cpython import syscalls
from watchdog_lambda._cpython.waiting import _tells_of_a_wait, main_is_blocked

REST = "0x7ffd 0x7f01"
FUTEXES = {"x86_64": 202, "aarch64": 98}
"""The numbers in the kernel's ``unistd.h``."""


@pytest.mark.parametrize(
    ("line", "waits"),
    [
        ("running\n", False),
        ("", False),
        ("-1 0x7ffd 0x7f01\n", False),
        ("7 0x1 0x1 0xffffffff 0x0 0x0 0x0 " + REST, True),
        ("0 0x3 0x0 0x0 0x0 0x0 0x0 " + REST, True),
        ("FUTEX 0x55 0x189 0x0 0x0 0x0 0xffffffff " + REST, True),
        ("FUTEX 0x55 0x189 0x0 0x7ff0 0x0 0xffffffff " + REST, False),
        ("FUTEX 0x55 0x80 0x2 0x0 0x0 0x0 " + REST, False),
    ],
)
@pytest.mark.parametrize("machine", FUTEXES)
def test_system_call_is_a_wait_unless_possibly_for_the_gil(
    machine: str,
    line: str,
    waits: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A system call is a wait, except a lock with a timeout or a mutex, which may be the GIL's."""
    monkeypatch.setattr(syscalls, "MACHINE", machine)

    assert _tells_of_a_wait(line.replace("FUTEX", str(FUTEXES[machine]))) is waits


def looked_at(is_over: threading.Event) -> bool:
    """Return whether another thread has seen this one, the main thread, blocked."""
    seen: list[bool] = []

    def look() -> None:
        try:
            eventually(lambda: main_is_blocked(main), "the main thread to block")
            seen.append(True)
        finally:
            is_over.set()
            os.write(writer, b"x")

    main = threading.get_ident()
    reader, writer = os.pipe()
    other = threading.Thread(target=look)
    other.start()
    try:
        os.read(reader, 1)
    finally:
        other.join(BOUND)
        os.close(reader)
        os.close(writer)
    return seen == [True]


def test_thread_reading_from_pipe_is_blocked() -> None:
    """The main thread is seen as blocked while it reads from a pipe."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("pytest-timeout or a plugin runs the tests on another thread")
    assert looked_at(threading.Event())


def test_look_leaves_no_file_open() -> None:
    """A look opens one file of the kernel's, and closes it again."""
    open_before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208

    main_is_blocked(threading.get_ident())

    assert set(os.listdir("/proc/self/fd")) <= open_before  # noqa: PTH208


def test_running_thread_is_not_blocked() -> None:
    """A running thread is never seen as blocked, in 200 looks and beside threads that compute."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            pass

    others = [threading.Thread(target=compute) for _ in range(3)]
    for thread in others:
        thread.start()
    seen: list[bool] = []
    main = threading.get_ident()

    def look() -> None:
        try:
            seen.extend(main_is_blocked(main) for _ in range(200))
        finally:
            stop.set()

    other = threading.Thread(target=look)
    other.start()
    until = time.monotonic() + BOUND
    while not stop.is_set() and time.monotonic() < until:
        sum(range(100))
    stop.set()
    for thread in (other, *others):
        thread.join(BOUND)

    assert len(seen) == 200
    assert not any(seen)


def test_thread_without_kernel_data_counts_as_not_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel's file or the thread's clock is missing, the thread counts as not blocked.

    The file is missing in some sandboxes, the clock on other systems.
    """
    monkeypatch.setattr(syscalls, "read", lambda _path: "")
    assert main_is_blocked(threading.get_ident()) is False
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    assert main_is_blocked(threading.get_ident()) is False
