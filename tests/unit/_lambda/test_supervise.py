"""Where there can be no supervisor: the reason, and that nothing else has happened."""

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
    """One thread, and a process that stays as it is."""
    monkeypatch.setattr(supervise, "threads_of_this_process", lambda: 1)
    monkeypatch.setattr(Kernel, "adopt_orphans", lambda _self: None)
    monkeypatch.setattr(Supervisor, "serve", raises(BlockingIOError(11, "try again")))


def refused() -> str:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(Refusal) as caught:
        begin("127.0.0.1:9001", Settings.from_environ({}), {})
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    return str(caught.value)


def test_more_than_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork would leave the others behind."""
    monkeypatch.setattr(supervise, "threads_of_this_process", lambda: 3)

    assert refused().startswith("3 threads run already, and a fork would take one of them along")


def test_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be told then how many threads there are."""
    missing = FileNotFoundError(2, "No such file or directory", "/proc/self/task")
    monkeypatch.setattr(supervise, "threads_of_this_process", raises(missing))

    assert refused().startswith("no /proc: ")


def test_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says so, too, before anything is started."""
    monkeypatch.delattr(os, "fork")

    assert refused() == supervise.refusal() == "no fork on linux"


def test_no_functions_of_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that was built without libffi."""
    monkeypatch.setattr(supervise, "Kernel", raises(ImportError("No module named '_ctypes'")))

    assert refused() == supervise.refusal() == "No module named '_ctypes'"


def test_a_system_that_refuses_to_tie_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known before anything depends on it."""
    monkeypatch.setattr(libc, "function", lambda *_given: lambda *_arguments: -1)

    assert refused() == supervise.refusal() == "the system refuses prctl(2)"


def test_a_system_that_refuses_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a handler starts could not be ended."""
    error = OSError("the system refuses prctl(36)")
    monkeypatch.setattr(Kernel, "adopt_orphans", raises(error))

    assert refused() == "the system refuses prctl(36)"


def test_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be seen of the process."""
    monkeypatch.setattr(supervise, "SharedState", raises(OSError(12, "Cannot allocate memory")))

    assert "Cannot allocate memory" in refused()


def test_no_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 3.17, or where Python was built for that."""
    monkeypatch.delattr(os, "memfd_create")

    assert "memfd_create" in refused()
    assert supervise.refusal() == "no files in memory (memfd_create)"


def test_no_process_to_be_had() -> None:
    """The limit of processes is reached."""
    assert refused() == "no process can be had: [Errno 11] try again"


def test_a_wait_ends_with_a_signal_or_an_interruption() -> None:
    """Which is none, whatever the C library has left behind; as at the end of the time."""

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


def test_where_it_can_be_had_there_is_no_reason() -> None:
    """Which is asked without a change."""
    assert supervise.refusal() is None
