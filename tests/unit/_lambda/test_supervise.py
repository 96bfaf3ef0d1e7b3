"""Tests of the reasons why there can be no supervisor, and that nothing else happens then."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import in_a_fork
from watchdog_lambda._config import Settings
from watchdog_lambda._cpython import libc
from watchdog_lambda._lambda import supervise
from watchdog_lambda._lambda.kernel import Kernel
from watchdog_lambda._lambda.supervise import Refusal, begin
from watchdog_lambda._lambda.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable


def raises(error: Exception) -> Callable[..., Any]:
    def function(*_given: object) -> None:
        raise error

    return function


@pytest.fixture(autouse=True)
def pristine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a process with one thread, and check that the test does not change it."""
    monkeypatch.setattr(supervise, "threads_of_this_process", lambda: 1)
    monkeypatch.setattr(Kernel, "adopt_orphans", lambda _self: None)
    monkeypatch.setattr(Supervisor, "serve", raises(BlockingIOError(11, "try again")))


def refused() -> str:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(Refusal) as caught:
        begin("127.0.0.1:9001", Settings.from_environ({}), {})
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    return str(caught.value)


def test_no_supervisor_with_more_than_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more than one thread there is no supervisor. A fork would not copy the other threads."""
    monkeypatch.setattr(supervise, "threads_of_this_process", lambda: 3)

    assert refused().startswith("3 threads run already, and a fork would take one of them along")


def test_no_supervisor_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc there is no supervisor, because the number of threads is unknown."""
    missing = FileNotFoundError(2, "No such file or directory", "/proc/self/task")
    monkeypatch.setattr(supervise, "threads_of_this_process", raises(missing))

    assert refused().startswith("no /proc: ")


def test_no_supervisor_without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fork there is no supervisor, and the command says so before anything is started."""
    monkeypatch.delattr(os, "fork")

    assert refused() == supervise.refusal() == "no fork on linux"


def test_no_supervisor_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ctypes, in a Python that was built without libffi, there is no supervisor."""
    monkeypatch.setattr(supervise, "Kernel", raises(ImportError("No module named '_ctypes'")))

    assert refused() == supervise.refusal() == "No module named '_ctypes'"


def test_no_supervisor_without_parent_death_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system cannot end the process with its supervisor, there is no supervisor.

    This is known before anything depends on it.
    """
    monkeypatch.setattr(libc, "function", lambda *_given: lambda *_arguments: -1)

    assert refused() == supervise.refusal() == "the system refuses prctl(2)"


def test_no_supervisor_without_child_subreaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system does not pass orphans on there is no supervisor.

    It could not end what a handler has started.
    """
    error = OSError("the system refuses prctl(36)")
    monkeypatch.setattr(Kernel, "adopt_orphans", raises(error))

    assert refused() == "the system refuses prctl(36)"


def test_no_supervisor_without_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shared memory there is no supervisor. It could not see the state of the process."""
    monkeypatch.setattr(supervise, "SharedState", raises(OSError(12, "Cannot allocate memory")))

    assert "Cannot allocate memory" in refused()


def test_no_supervisor_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without files in memory there is no supervisor.

    Linux before 3.17 has none, nor has a Python that was built for it.
    """
    monkeypatch.delattr(os, "memfd_create")

    assert "memfd_create" in refused()
    assert supervise.refusal() == "no files in memory (memfd_create)"


def test_no_supervisor_if_fork_fails() -> None:
    """If no process can be started, because of the limit, there is no supervisor."""
    assert refused() == "no process can be had: [Errno 11] try again"


def test_wait_ends_with_signal_or_interruption() -> None:
    """A wait returns the signal that has arrived, or 0 at an interruption or the time's end."""

    def child() -> bytes:
        kernel, waited_for = Kernel(), frozenset({signal.SIGUSR1, signal.SIGRTMIN})
        signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
        nothing = kernel.wait_for_signal(waited_for, 0.001)
        os.kill(os.getpid(), signal.SIGRTMIN)
        rung = kernel.wait_for_signal(waited_for, 60.0)
        signal.signal(signal.SIGALRM, lambda *_given: None)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        interrupted = kernel.wait_for_signal(waited_for, 60.0)
        return repr((nothing, rung, interrupted)).encode()

    assert in_a_fork(child) == repr((0, int(signal.SIGRTMIN), 0)).encode()


def test_no_refusal_where_supervisor_is_possible() -> None:
    """Where a supervisor is possible there is no reason, and the check changes nothing."""
    assert supervise.refusal() is None
