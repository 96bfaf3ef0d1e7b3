"""What the watchdog's thread does when it fires keeps the GIL: nothing runs beside it meanwhile."""

from __future__ import annotations

import os
import sys
import threading
from importlib.machinery import FileFinder, SourceFileLoader
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND
from watchdog_lambda._cpython import libc, stacks, syscalls
from watchdog_lambda._cpython.source import SourceMap, current_source
from watchdog_lambda._cpython.waiting import main_is_blocked
from watchdog_lambda._engine.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def endless_turns() -> Iterator[None]:
    """Let no thread lose the GIL unless it releases it."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(10 * BOUND)
    yield
    sys.setswitchinterval(usual)


def keeps_the_gil(act: Callable[[], object]) -> bool:
    """Return whether another thread, which waits for the GIL, does not get it during the call."""
    ran: list[bool] = []
    gate, begun = threading.Lock(), threading.Event()
    gate.acquire()

    def wait() -> None:
        begun.set()
        gate.acquire()
        ran.append(True)

    other = threading.Thread(target=wait)
    other.start()
    begun.wait(BOUND)
    assert other.native_id is not None
    until = SystemClock.monotonic() + BOUND
    while syscalls.state_of(other.native_id) != "S":  # on its way to the gate
        SystemClock.pause(0)
        assert SystemClock.monotonic() < until
    before = syscalls.turns(other.native_id)
    gate.release()
    # It waits for the gate no more, but for the GIL.
    while syscalls.turns(other.native_id) == before and not ran:
        assert SystemClock.monotonic() < until
    assert not ran
    try:
        act()
        return not ran
    finally:
        other.join(BOUND)


def folder(path: Path) -> str:
    """Return a path entry with a package installed in it, from which a module has been imported."""
    (path / "urllib3-2.8.0.dist-info").mkdir()
    (path / "app.py").touch()
    finder = FileFinder(str(path), (SourceFileLoader, [".py"]))
    assert finder.find_spec("app") is not None
    sys.path_importer_cache[str(path)] = finder
    return str(path)


@pytest.mark.usefixtures("endless_turns")
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda: stacks.all_stacks(threading.get_ident()), id="stacks"),
        pytest.param(lambda: main_is_blocked(threading.get_ident()), id="blocked"),
        pytest.param(lambda: current_source().is_own("/opt/app/app.py"), id="source"),
    ],
)
def test_firing_keeps_the_gil(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the threads keeps the GIL: beside busy threads each release costs many turns."""
    stacks.preload()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    assert all(keeps_the_gil(act) for _ in range(5))
    # As a control. Sometimes the thread gets it back before the other one has woken.
    assert not all(keeps_the_gil(lambda: os.listdir("/proc/self/fd")) for _ in range(100))  # noqa: PTH208


def test_folder_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that modules were imported from is not listed: importlib knows what is in it."""
    entry = folder(tmp_path)
    monkeypatch.setattr(os, "listdir", lambda _folder: pytest.fail("listed"))
    code = SourceMap([entry])

    assert code.is_own(f"{entry}/app.py")
    assert not code.is_own(f"{entry}/urllib3/connection.py")


def test_failed_calls_give_nothing() -> None:
    """A descriptor that is gone gives no content, and no error."""
    assert libc.pread(-1, libc.lseek(-1, 0, os.SEEK_CUR), 0) == b""


def test_memory_file_is_refused_as_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel refuses a memory file, Python's function raises why."""

    def refuse(_name: str) -> int:
        raise PermissionError

    monkeypatch.setattr(libc, "_memfd_create", None)
    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(PermissionError):
        libc.memfd_create("refused")
