"""The stacks of all threads, taken in one C call and read as places."""

from __future__ import annotations

import errno
import os
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND
from watchdog_lambda._cpython import stacks
from watchdog_lambda._cpython.stacks import ReserveFile, _parse, all_stacks, own_stack

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType


def test_every_thread_has_its_stack() -> None:
    """Each thread's stack is under its id, innermost first, as its own frames have it."""
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


def test_temporary_file_is_used_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memfd_create a temporary file is used, and no descriptor stays open."""

    def refuse(*_: object) -> int:
        raise OSError("not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(stacks, "_calls", os)
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208

    assert all_stacks(threading.get_ident())[threading.get_ident()]
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> ReserveFile:
    """Return the reserve file, where no other file can be opened."""
    kept = ReserveFile()

    def none_left() -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(stacks, "_reserves", [kept])
    monkeypatch.setattr(stacks, "_new_file", none_left)
    return kept


def test_reserve_file_is_used_without_descriptors(spare: ReserveFile) -> None:
    """Without descriptors the reserve file is used, each time.

    While another thread uses it, only the wanted thread's frames are walked.
    """
    ident = threading.get_ident()
    for _ in range(2):
        assert all_stacks(ident)[ident][0][2] == "_dump"

    with spare._lock:
        assert list(all_stacks(ident)) == [ident]
        assert all_stacks(ident)[ident][0][2] == "stack_of"
    os.close(spare._descriptor)


def test_replaced_reserve_file_is_not_written_to(spare: ReserveFile, tmp_path: Path) -> None:
    """A reserve file whose descriptor user code has replaced is not written to."""
    user_file = (tmp_path / "user_file").open("w+b")
    os.dup2(user_file.fileno(), spare._descriptor)
    try:
        ident = threading.get_ident()
        assert all_stacks(ident)[ident][0][2] == "stack_of"
        assert user_file.read() == b""
    finally:
        os.close(spare._descriptor)
        user_file.close()


@pytest.mark.usefixtures("spare")
def test_start_without_descriptors_has_no_reserve_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A start without descriptors succeeds without a reserve; one thread's frames are walked."""
    spares: list[ReserveFile] = []
    monkeypatch.setattr(stacks, "_reserves", spares)

    stacks.preload()

    assert spares == []
    ident = threading.get_ident()
    assert all_stacks(ident)[ident][0][2] == "stack_of"


def test_no_stack_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory the result is empty, without an error."""

    def no_memory() -> str:
        raise MemoryError

    monkeypatch.setattr(stacks, "_text", no_memory)

    assert all_stacks(threading.get_ident()) == {}


def test_faulthandler_output_is_parsed() -> None:
    """Thread names (3.14), names with odd characters, cut stacks and empty ones are read."""
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


def test_threads_in_one_place_share_a_stack() -> None:
    """The same stack, as of a pool's idle threads, is parsed only once."""
    frames = '  File "/task/app.py", line 12 in wait'
    heads = [f"Thread 0x{ident} (most recent call first):\n" for ident in ("1", "2")]

    stacks = _parse("\n\n".join(head + frames for head in heads))

    assert stacks == {1: [("/task/app.py", 12, "wait")], 2: [("/task/app.py", 12, "wait")]}
    assert stacks[1] is stacks[2]


@pytest.mark.parametrize(
    ("interpreters", "expected"),
    [(1, sys.version_info[:2] == (3, 12)), (2, sys.version_info >= (3, 12))],
)
def test_no_frame_is_walked_beside_other_interpreters(
    monkeypatch: pytest.MonkeyPatch, interpreters: int, *, expected: bool
) -> None:
    """No frame is walked where other interpreters may run meanwhile, from 3.12 on.

    faulthandler writes down this interpreter's threads only; on 3.14 `concurrent.futures` imports
    the module, whether or not anything uses interpreters.
    """
    module = SimpleNamespace(list_all=lambda: [None] * interpreters)
    for name in ("_interpreters", "_xxsubinterpreters"):
        monkeypatch.setitem(sys.modules, name, module)
    walked: list[str] = []

    def walk() -> dict[int, FrameType]:
        walked.append("frames")
        return {}

    monkeypatch.setattr(sys, "_current_frames", walk)
    monkeypatch.setattr(sys, "_current_exceptions", walk)
    ident = threading.get_ident()

    [innermost, *_] = stacks.stack_of(ident, 3) or [("", 0, "")]
    assert innermost[2] == ("_dump" if expected else "")

    monkeypatch.setattr(stacks, "_text", lambda: "")
    assert all_stacks(ident) == ({} if expected else {ident: []})

    assert (stacks.frame_of(ident), stacks.handled_by(ident)) == (None, None)

    assert walked == ([] if expected else ["frames"] * 4)
