"""Which system call a thread is blocked in, read from the kernel for real threads."""

from __future__ import annotations

import ctypes
import os
import re
import select
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND, eventually
from watchdog_lambda._cpython import syscalls, waiting
from watchdog_lambda._cpython.syscalls import NAMES, Blocked, blocked_in, state_of, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def in_a_thread(work: Callable[[], object]) -> Iterator[int]:
    """Run `work` in a thread, and yield its native id. The block has to end the thread's wait."""
    ids: list[int] = []

    def run() -> None:
        ids.append(threading.get_native_id())
        work()

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: ids, "the thread to start")
    yield ids[0]
    thread.join(BOUND)
    assert not thread.is_alive()


def wait_of(native_id: int) -> Blocked:
    found: list[Blocked] = []

    def look() -> bool:
        blocked = blocked_in(native_id)
        if blocked is not None:
            found.append(blocked)
        return blocked is not None

    eventually(look, "the thread to block in the call")
    return found[0]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    local, peer = socket.socketpair()
    with local, peer:
        yield local, peer


Pair = tuple[socket.socket, socket.socket]


def test_receive_has_one_descriptor(pair: Pair) -> None:
    """A receive has one descriptor, no limit and no child."""
    local, peer = pair
    with in_a_thread(lambda: local.recv(1)) as native_id:
        blocked = wait_of(native_id)
        peer.send(b"x")

    assert blocked.descriptors() == [local.fileno()]
    assert (blocked.limit(), blocked.child()) == (None, None)


@pytest.mark.parametrize(("milliseconds", "limit"), [(9000, 9.0), (None, None)])
def test_poll_has_descriptors_and_limit(
    milliseconds: int | None, limit: float | None, pair: Pair
) -> None:
    """A poll has all its descriptors, and its limit."""
    local, peer = pair
    poll = select.poll()
    poll.register(local, select.POLLIN)
    poll.register(peer, select.POLLPRI)
    with in_a_thread(lambda: poll.poll(milliseconds)) as native_id:
        blocked = wait_of(native_id)
        assert sorted(blocked.descriptors()) == sorted([local.fileno(), peer.fileno()])
        assert blocked.limit() == limit
        peer.send(b"x")


def test_select_has_descriptors_and_limit(pair: Pair) -> None:
    """A select has the descriptors of all its sets, and its limit."""
    local, peer = pair
    with in_a_thread(lambda: select.select([local], [], [peer], 9.0)) as native_id:
        blocked = wait_of(native_id)
        assert sorted(blocked.descriptors()) == sorted([local.fileno(), peer.fileno()])
        assert blocked.limit() == pytest.approx(9.0, abs=1.0)
        peer.send(b"x")


def test_epoll_has_descriptors(pair: Pair) -> None:
    """An epoll has its descriptors, which are read from the kernel."""
    local, peer = pair
    with select.epoll() as epoll:
        epoll.register(local, select.EPOLLIN)
        with in_a_thread(lambda: epoll.poll(9.0)) as native_id:
            blocked = wait_of(native_id)
            assert (blocked.descriptors(), blocked.limit()) == ([local.fileno()], 9.0)
            peer.send(b"x")


def test_wait_for_child_has_its_pid() -> None:
    """A wait for a child has the child's process id."""
    with subprocess.Popen(["sleep", "60"]) as child, in_a_thread(child.wait) as native_id:
        blocked = wait_of(native_id)
        child.kill()

    assert (blocked.child(), blocked.descriptors(), blocked.limit()) == (child.pid, [], None)


@pytest.mark.parametrize("arguments", [(1, 77), (2, 0)], ids=["one process", "process group"])
def test_waitid_has_child_only_for_one_process(arguments: tuple[int, int]) -> None:
    """A waitid has a child only if it waits for one process."""
    blocked = Blocked(247, (*arguments, 0, 0, 0, 0), "waitid")

    assert blocked.child() == (77 if arguments[0] == 1 else None)


def test_turns_do_not_change_while_waiting(pair: Pair) -> None:
    """A thread's turns do not change while it waits, and have changed once it is back."""
    local, peer = pair
    go_on = threading.Event()

    def work() -> None:
        local.recv(1)
        go_on.wait(BOUND)

    with in_a_thread(work) as native_id:
        wait_of(native_id)
        before = turns(native_id)
        assert before == turns(native_id)
        assert state_of(native_id) == "S"
        peer.send(b"x")
        eventually(lambda: turns(native_id) != before, "the thread to have a turn")
        go_on.set()
    assert (blocked_in(native_id), turns(native_id), state_of(native_id)) == (None, None, "")


def test_running_thread_is_not_blocked() -> None:
    """A running thread is in state R and is not blocked."""
    native_id = threading.get_native_id()
    assert native_id in syscalls.threads()
    assert state_of(native_id) == "R"
    # The kernel may show the call that reads this file.
    blocked = blocked_in(native_id)
    assert blocked is None or blocked.name == "read"


def test_invalid_pointer_is_read_as_missing() -> None:
    """An invalid pointer is read as missing, and does not end the process."""
    nowhere = Blocked(7, (8, 1, 5, 0, 0, 0), "poll")
    assert (nowhere.descriptors(), nowhere.limit()) == ([], 0.005)
    assert Blocked(271, (0, 1, 8, 0, 0, 0), "ppoll").limit() is None
    assert Blocked(271, (0, 1, 0, 0, 0, 0), "ppoll").limit() is None


def test_limit_is_read_from_timespec_or_timeval() -> None:
    """The limit of a ppoll or select is read from its timespec or timeval."""
    content = (ctypes.c_int64 * 2)(3, 250_000_000)
    address = ctypes.addressof(content)
    assert Blocked(271, (0, 0, address, 0, 0, 0), "ppoll").limit() == pytest.approx(3.25)
    assert Blocked(23, (0, 0, 0, 0, address, 0), "select").limit() == pytest.approx(253.0)


def test_nothing_is_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc, or with a line that cannot be read, nothing is known."""
    monkeypatch.setattr(syscalls, "read", lambda _path: "")
    assert not syscalls.is_told()
    assert (blocked_in(1), turns(1), state_of(1)) == (None, None, "")
    monkeypatch.setattr(syscalls, "read", lambda _path: "7 what 0 0 0 0 0 0 0")
    assert blocked_in(1) is None
    monkeypatch.setattr(os, "listdir", lambda _path: (_ for _ in ()).throw(OSError()))
    assert syscalls.threads() == []


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")],
)
def test_numbers_match_kernel_headers(machine: str, header: str) -> None:
    """The numbers of both machines equal those in the kernel's headers, if installed."""
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip(f"needs {path} (linux-libc-dev)")
    found = re.findall(r"#define __NR_(\w+) (\d+)", path.read_text(encoding="utf-8"))
    numbers = {name: int(number) for name, number in found}
    for number, name in NAMES[machine].items():
        assert numbers[name] == number
    assert numbers["futex"] == waiting._FUTEX[machine]


def test_both_architectures_have_the_same_calls() -> None:
    """Both machines' tables have the same calls, except three that arm64 never had."""
    older = {"poll", "select", "epoll_wait"}
    assert set(NAMES["x86_64"].values()) - older == set(NAMES["aarch64"].values())


def test_proc_files_are_read_without_releasing_the_gil(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel's files are read without ``open()``, which would release the GIL six times.

    Threads that compute would take a turn each time.
    """
    monkeypatch.setattr(syscalls, "open", None, raising=False)

    status = syscalls.read("/proc/self/status")

    assert status.startswith("Name:")
    assert status.endswith("\n")
    assert len(status) > 512, "the file fits into one read"
    assert syscalls.read("/proc/self/nothing") == ""
