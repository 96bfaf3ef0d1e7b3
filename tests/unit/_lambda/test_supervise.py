"""Tests of the reasons why there can be no supervisor, and of what the runtime's process does."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import in_a_fork
from watchdog_lambda._config import Settings
from watchdog_lambda._cpython import libc
from watchdog_lambda._lambda import supervise
from watchdog_lambda._lambda.kernel import Kernel
from watchdog_lambda._lambda.shared_state import SharedState
from watchdog_lambda._lambda.stack_files import StackFiles
from watchdog_lambda._lambda.supervise import Refusal, begin
from watchdog_lambda._lambda.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
    monkeypatch.setattr(supervise, "threads_of_this_process", lambda: 2)

    assert refused().startswith(
        "2 threads are already running, and a fork would copy only one of them"
    )


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
    assert supervise.refusal() == "in-memory files (memfd_create) are not available"


def test_no_supervisor_if_fork_fails() -> None:
    """If no process can be started, because of the limit, there is no supervisor."""
    assert refused() == "no process can be started: [Errno 11] try again"


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


# ---- the runtime's process ---------------------------------------------------------------------


class Exited(BaseException):
    """Raised where the process would have ended with this status."""


class Forked:
    """Stands for what a process of the runtime uses once it has been forked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, score: Path) -> None:
        self.did: list[object] = []
        self.parent = os.getpid()
        self.grace_period: Callable[[float], float] = float
        patch = monkeypatch.setattr
        patch(Supervisor, "serve", lambda _self: "the first event's connection")
        patch(Kernel, "end_with_parent", lambda _self, number: self.did.append(number))
        patch(os, "getppid", lambda: self.parent)
        patch(os, "_exit", self._exit)
        patch(os, "kill", lambda *given: self.did.append(given))
        patch(supervise, "open", lambda _path, mode: score.open(mode), raising=False)
        patch(supervise, "Answers", self._answers)
        patch(StackFiles, "catch", lambda _self: 42)
        patch(SharedState, "set_dump_signal", lambda _self, number: self.did.append(number))
        patch(supervise, "WatchedClient", self._client)
        patch(supervise, "Supervised", lambda *given: SimpleNamespace(given=given))

    def begin(self) -> Any:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            return begin("127.0.0.1:9001", Settings.from_environ({}), {})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _exit(self, status: int) -> None:
        raise Exited(status)

    def _answers(self, *given: Any) -> None:
        self.grace_period = given[3]

    def _client(self, _state: object, *, first: object, ring: Callable[[], None]) -> Any:
        ring()
        return SimpleNamespace(install=lambda: self.did.append(first))


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Forked:
    return Forked(monkeypatch, tmp_path / "score")


def test_runtime_process_is_prepared_for_its_supervisor(forked: Forked, tmp_path: Path) -> None:
    """The runtime's process ends with its supervisor, can write its stack, and is killed first.

    Its client has the connection for the first event, and rings its supervisor.
    """
    supervised = forked.begin()

    assert (tmp_path / "score").read_bytes() == b"500"
    assert forked.did == [
        signal.SIGKILL,
        42,
        (os.getpid(), signal.SIGRTMIN),
        "the first event's connection",
    ]
    assert len(supervised.given) == 3


def test_runtime_process_ends_if_its_supervisor_has_ended(forked: Forked) -> None:
    """A process whose supervisor has ended before the signal for that was set ends by itself."""
    forked.parent = 1

    with pytest.raises(Exited) as ended:
        forked.begin()

    assert ended.value.args == (1,)
    assert forked.did == [signal.SIGKILL]


def test_refused_score_is_no_error(forked: Forked, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system refuses the score the process goes on; the kernel chooses by size then."""
    monkeypatch.setattr(supervise, "open", raises(PermissionError(13, "no")))

    forked.begin()

    assert "the first event's connection" in forked.did


@pytest.mark.parametrize(("seconds", "grace_period"), [(30.0, 3.0), (4.0, 1.0)])
def test_supervisor_knows_the_grace_period_in_force(
    forked: Forked, seconds: float, grace_period: float
) -> None:
    """The supervisor's answers are made with the grace period of the invocation's own time."""
    forked.begin()

    assert forked.grace_period(seconds) == grace_period
