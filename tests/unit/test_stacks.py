"""Stacks of all threads in one C call, as plain places."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from tests.support import BOUND
from watchdog_lambda._stacks import _parse, all_stacks, own_stack

if TYPE_CHECKING:
    import pytest


def test_every_thread_is_there_with_its_place() -> None:
    """By thread id, innermost first, as the threads' own frames have it."""
    release, waits = threading.Event(), threading.Event()

    def poll() -> None:
        waits.set()
        release.wait(BOUND)

    other = threading.Thread(target=poll)
    other.start()
    waits.wait(BOUND)
    try:
        stacks = all_stacks(threading.get_ident())
    finally:
        release.set()
        other.join(BOUND)

    assert other.ident is not None
    functions = [function for _, _, function in stacks[other.ident]]
    assert "poll" in functions
    assert functions.index("wait") < functions.index("poll")
    assert stacks[threading.get_ident()][0][2] == "_dump"
    mine = own_stack(sys._getframe())
    assert [place[0] for place in stacks[threading.get_ident()]][-3:] == [p[0] for p in mine][-3:]


def test_it_works_without_memory_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memfd_create is not allowed, a temporary file serves; no descriptor is left open."""

    def refuse(*_: object) -> int:
        raise OSError("not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208

    assert all_stacks(threading.get_ident())[threading.get_ident()]
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


def test_what_faulthandler_writes_is_read() -> None:
    """Thread names (3.14), names with odd characters, cut stacks, threads without frames."""
    text = (
        "Current thread 0x00007f8b588f16c0 [worker] (most recent call first):\n"
        '  File "/task/a, line 3.py", line 12 in <lambda>\n'
        "  ...\n"
        "\n"
        "Thread 0x00000000000000ff (most recent call first):\n"
        "  <no Python frame>\n"
    )

    assert _parse(text) == {
        0x7F8B588F16C0: [("/task/a, line 3.py", 12, "<lambda>"), ("...", 0, "")],
        0xFF: [],
    }
