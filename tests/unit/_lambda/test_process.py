"""Tests of a process's children and initial state; tests/runtime has real restarts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock, eventually, in_a_fork
from watchdog_lambda._cpython.children import parent_and_start, processes_by_parent
from watchdog_lambda._engine.clock import SystemClock, cpu_time
from watchdog_lambda._lambda import offspring, process
from watchdog_lambda._lambda.offspring import end_children
from watchdog_lambda._lambda.process import PAST, Start, take_past

if TYPE_CHECKING:
    from collections.abc import Callable


def test_past_is_read_once_and_removed() -> None:
    """The previous program's data is read once, and removed from the environment.

    Child processes do not inherit it.
    """
    environ = {PAST: "cpu=0.125 extension=ext-1", "HOME": "/"}

    assert take_past(environ) == {"cpu": "0.125", "extension": "ext-1"}
    assert environ == {"HOME": "/"}
    assert take_past(environ) == {}


def test_descendants_are_ended_except_older_ones() -> None:
    """Children and their children are ended, but not those from before the start.

    An image's start script may have started them.
    """
    with subprocess.Popen(["sleep", "60"]) as spared:
        since = parent_and_start(spared.pid)[1] + 0.001
        tick = 1 / os.sysconf("SC_CLK_TCK")
        eventually(lambda: SystemClock.since_boot() > since + tick, "the next tick")
        script = "sleep 60 & echo $!; wait"
        with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as shell:
            assert shell.stdout is not None
            grandchild = int(shell.stdout.readline())

            ended = end_children(since)

            assert {shell.pid, grandchild} <= set(ended)
            assert spared.pid not in ended
            assert spared.poll() is None
            assert not Path(f"/proc/{shell.pid}").exists(), "the child was not reaped"
        spared.terminate()


def test_child_that_ends_by_itself_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ends by itself before it is signalled is no error.

    Nor is one that other code waits for.
    """
    nobody = 999_999_999
    monkeypatch.setattr(offspring, "descendants", lambda _pid, _since: [nobody])

    assert end_children(0.0) == [nobody]


@pytest.mark.parametrize(("looks", "turns"), [(3, 2), (100, 20)])
def test_ended_child_is_awaited_briefly(
    monkeypatch: pytest.MonkeyPatch, looks: int, turns: int
) -> None:
    """An ended child is awaited, for 20 ms in all. A child that the kernel does not end is left."""
    clock = FakeClock()
    running = iter([True] * (looks - 1) + [False])
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(offspring, "descendants", lambda _pid, _since: [999_999_999])
    monkeypatch.setattr(offspring, "_is_running", lambda _pid: next(running))
    monkeypatch.setattr(
        offspring, "SystemClock", SimpleNamespace(monotonic=clock.monotonic, pause=pause)
    )

    end_children(0.0)

    assert len(pauses) == pytest.approx(turns, abs=1 if turns > 2 else 0)


def test_vanished_process_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that has ended when it is read is left out.

    Entries of /proc that are no processes are ignored.
    """
    parent = os.getppid()
    listed = ["meminfo", "999999999", str(os.getpid())]
    monkeypatch.setattr(os, "listdir", lambda _path: listed)

    assert processes_by_parent() == {parent: [os.getpid()]}


IGNORED = (signal.SIGHUP, signal.SIGUSR2)


def restarted(prepare: Callable[[Start], object], **environ: str) -> dict[str, Any]:
    """Return the state with which a prepared process restarts, as observed in a child process."""

    def child() -> bytes:
        found: dict[str, Any] = {}
        ended: list[float] = []

        def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
            found.update(path=path, arguments=arguments, environ=environment, cwd=str(Path.cwd()))
            found["mask"] = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            found["timer"] = signal.getitimer(signal.ITIMER_REAL)[0]
            ignored = [n for n in IGNORED if signal.getsignal(n) == signal.SIG_IGN]
            found["ignored"] = ignored
            found["kept"] = [fd for fd in found.pop("watched") if os.get_inheritable(fd)]

        os.execve = execve  # type: ignore[assignment]
        offspring.end_children = ended.append  # type: ignore[assignment]
        for number in IGNORED:  # under nohup, SIGHUP is ignored from the start, and stays so
            signal.signal(number, signal.SIG_DFL)
        start = Start({"extension": "ext-1"})
        start.environ = {"HOME": "/", **environ}
        found["watched"] = prepare(start) or []
        start.again()
        found["ended"] = ended == [start.at]  # type: ignore[unreachable]
        return json.dumps(found).encode()

    said: dict[str, Any] = json.loads(in_a_fork(child))
    return said


def test_program_restarts_with_its_initial_state(tmp_path: Path) -> None:
    """A program restarts with its initial arguments, environment, directory and blocked signals.

    Later changes are not kept, and what it has started since is ended.
    """

    def change(start: Start) -> list[int]:
        given, opened = os.pipe()
        start.descriptors.add(given)
        for descriptor in (given, opened):
            os.set_inheritable(descriptor, True)
        os.chdir(tmp_path)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.setitimer(signal.ITIMER_REAL, 100.0)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.environ["CHANGED_SINCE"] = "1"
        return [given, opened]

    before = str(Path.cwd())
    found = restarted(change)

    assert found["path"] == found["arguments"][0] == sys.executable
    assert found["arguments"][1:] == sys.orig_argv[1:]
    past = found["environ"].pop(PAST)
    assert found["environ"] == {"HOME": "/"}
    assert re.fullmatch(r"extension=ext-1 cpu=\d+\.\d{3} began=\d+\.\d{3}", past)
    assert found["ended"]
    assert found["ignored"] == []
    assert found["cwd"] == before
    assert signal.SIGUSR1 not in found["mask"]
    assert found["timer"] == 0
    assert len(found["kept"]) == 1


def test_missing_initial_directory_is_not_restored(tmp_path: Path) -> None:
    """If the initial directory was gone at the start already, a restart does not change to it."""

    def change(start: Start) -> None:
        start.cwd = None
        os.chdir(tmp_path)

    assert restarted(change)["cwd"] == str(tmp_path)


@pytest.mark.parametrize("kind", ["snap-start", "on-demand"])
def test_snapshot_is_not_requested_after_restart(kind: str) -> None:
    """A snapshot is not taken again after a restart, because Lambda would not answer the request.

    Other types of initialization are passed on.
    """
    found = restarted(lambda _start: None, AWS_LAMBDA_INITIALIZATION_TYPE=kind)

    told = found["environ"].get("AWS_LAMBDA_INITIALIZATION_TYPE")
    assert told == (None if kind == "snap-start" else kind)


def test_removed_working_directory_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that has been removed counts as unknown, and the start goes on."""

    def removed() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", removed)

    assert Start({}).cwd is None


def test_start_has_initial_environment_and_descriptors() -> None:
    """The initial state has the first environment and the inherited descriptors.

    Later changes do not affect it.
    """
    os.environ["CHANGED_SINCE"] = "1"
    read, write = os.pipe()
    try:
        start = Start({})
        assert "CHANGED_SINCE" not in start.environ
        assert start.environ["PATH"]
        assert {0, 1, 2} <= start.descriptors
        assert read not in start.descriptors
        unused = os.dup(read)
        os.close(unused)
        assert unused not in Start({}).descriptors, "it was that of the listing"
        assert start.cwd == str(Path.cwd())
    finally:
        os.close(read)
        os.close(write)
        del os.environ["CHANGED_SINCE"]


# ---- before the next event ---------------------------------------------------------------------


class Client:
    """Stands for awslambdaric's client."""

    def wait_next_invocation(self) -> str:
        return "event"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    """Install a client as that of this process's runtime."""
    own = type("Client", (Client,), {"wait_next_invocation": Client.wait_next_invocation})
    module = SimpleNamespace(BaseLambdaRuntimeClient=own)
    monkeypatch.setitem(sys.modules, "awslambdaric.lambda_runtime_client", module)
    return own


def started(monkeypatch: pytest.MonkeyPatch, clock: FakeClock, **environ: str) -> Start:
    """A process whose init has taken two seconds, one of them of processor time."""
    now = SimpleNamespace(since_boot=clock.monotonic, monotonic=clock.monotonic)
    monkeypatch.setattr(process, "SystemClock", now)
    monkeypatch.setattr(process, "cpu_time", lambda: 1.5)
    start = Start({"began": f"{clock.monotonic() - 2.0}", "cpu": "0.5"})
    start.environ = environ
    return start


@pytest.mark.parametrize(
    ("memory", "seconds"),
    [
        ("1769", 2.0),
        ("10240", 2.0),
        ("884", 3.0),
        ("1", 1770.0),
        ("0", 1770.0),
        ("", 2.0),
        ("odd", 2.0),
    ],
)
def test_init_estimate_scales_with_cpu_share(
    monkeypatch: pytest.MonkeyPatch, memory: str, seconds: float
) -> None:
    """An init takes longer at a small function's CPU share, by its processor time.

    Lambda gives a whole processor to the first init only.
    """
    start = started(monkeypatch, FakeClock(), AWS_LAMBDA_FUNCTION_MEMORY_SIZE=memory)

    assert start.init_takes() == pytest.approx(seconds, abs=0.01)


def test_init_begins_with_the_process_by_default() -> None:
    """Without a previous program's data the init has begun with the process.

    The kernel's start time is used.
    """
    start = Start({})
    start.environ = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}
    whole = SystemClock.since_boot() - parent_and_start(os.getpid())[1]
    assert start.init_takes() == pytest.approx(whole, abs=0.5)

    start.environ = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "884"}
    assert start.init_takes() == pytest.approx(whole + cpu_time() * (1769 / 884 - 1), abs=0.5)


@pytest.mark.parametrize("left", [2.5, 2.0])
def test_restart_happens_right_before_the_next_event(
    monkeypatch: pytest.MonkeyPatch, client: type[Client], left: float
) -> None:
    """The restart happens before the next event, when the answer has been sent, and not earlier.

    What was printed is written before. There may be no such stream.
    """
    begun: list[str] = []
    monkeypatch.setattr(Start, "again", lambda _self: begun.append("again"))
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(flush=lambda: begun.append("flush")))
    start = started(monkeypatch, FakeClock())

    assert start.before_next_event(left) is None
    assert begun == []
    client().wait_next_invocation()
    assert begun == ["flush", "again"]


@pytest.mark.parametrize(("left", "said"), [(1.5, "1.5 s"), (0.5, "0.5 s"), (-1.5, "0.0 s")])
def test_process_is_kept_if_init_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, client: type[Client], left: float, said: str
) -> None:
    """The process is kept if the init does not fit into the remaining time.

    The record has both times.
    """
    before = client.wait_next_invocation
    start = started(monkeypatch, FakeClock())

    assert start.before_next_event(left) == f"the init takes 2.0 s, {said} are left"
    assert client.wait_next_invocation is before


@pytest.mark.parametrize(
    ("error", "said"), [(None, "no time is left for the init"), (OSError("no exec"), "no exec")]
)
def test_process_serves_next_event_if_restart_fails(
    monkeypatch: pytest.MonkeyPatch,
    client: type[Client],
    caplog: pytest.LogCaptureFixture,
    error: OSError | None,
    said: str,
) -> None:
    """A process that cannot restart serves the next event and logs why.

    Posting the answer has taken too long, or the program is gone.
    """

    def again(_self: Start) -> None:
        if error is not None:
            raise error

    clock = FakeClock()
    monkeypatch.setattr(Start, "again", again)
    started(monkeypatch, clock).before_next_event(2.5)
    clock.advance(0.0 if error else 1.0)

    assert client().wait_next_invocation() == "event"
    assert caplog.messages == [f"not recycled after all: {said}"]
    assert client().wait_next_invocation() == "event"
    assert len(caplog.messages) == 1


def test_child_process_and_other_runtime_do_not_restart(
    monkeypatch: pytest.MonkeyPatch, client: type[Client]
) -> None:
    """Neither a child process nor a process of another runtime restarts.

    A child would replace its parent; the other would never reach the restart.
    """
    del client
    start = Start({})
    assert in_a_fork(lambda: str(start.before_next_event(1e6)).encode()) == (
        b"this is a child process"
    )
    monkeypatch.delitem(sys.modules, "awslambdaric.lambda_runtime_client")
    assert start.before_next_event(1e6) == "the runtime is not awslambdaric's"


PREPARE = """
import logging, os, sys
logging.basicConfig(format="%(message)s")
from watchdog_lambda import watch
from watchdog_lambda._process import process_watchdog
ours = "watchdog_lambda._lambda.last_resort"
watch(last_resort="exit")(print)
print(process_watchdog.last_resort is not None, ours in sys.modules)
"""


def prepared(**environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip(), done.stderr


def test_last_resort_is_prepared_only_on_lambda() -> None:
    """The last resort is prepared on Lambda only.

    Elsewhere there is no caller to answer, and nothing is imported.
    """
    assert prepared() == ("False False", "")
    assert prepared(AWS_LAMBDA_RUNTIME_API="127.0.0.1:9001") == ("True True", "")


def test_managed_instances_log_missing_last_resort() -> None:
    """On Managed Instances the log says that there is no last resort.

    An exit would end a worker for good.
    """
    stdout, stderr = prepared(
        AWS_LAMBDA_RUNTIME_API="127.0.0.1:9001", AWS_LAMBDA_MAX_CONCURRENCY="4"
    )

    assert stdout == "False False"
    assert "LAST_RESORT=exit has no effect in Managed Instances" in stderr
