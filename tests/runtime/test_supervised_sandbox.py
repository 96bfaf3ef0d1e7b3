"""Tests of a supervisor's sandbox: signals, freezes, memory, daemons and refused answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import watchdog_lambda
from tests import log_schema
from tests.support import BOUND

from .runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

TIMEOUT: Final = 2.0
HANDLERS: Final = Path(__file__).parent / "handlers"
LOOK: Final = {"do": "look"}
HANDLER: Final = '''
import os, signal, subprocess, sys, time
{imported}

def hold_the_gil(seconds):
    """Wait for a lock that this thread has itself: no signal ends that."""
    import ctypes
    libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    until = time.time() + seconds
    libc.pthread_mutex_lock(mutex)
    ends = (ctypes.c_long * 2)(int(until), int(until % 1 * 1e9))
    libc.pthread_mutex_timedlock(mutex, ends)

def handler(event, context):
    if event.get("do") == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if event.get("do") == "hold":
        hold_the_gil(event["seconds"])
    if event.get("do") == "sleep":
        time.sleep(event["seconds"])
    if event.get("do") == "grow":
        blocks = []
        while True:
            blocks.append(b"x" * (4 << 20))
    return {{"pid": os.getpid(), "supervisor": os.getppid()}}
'''
RUN: Final = (
    "import runpy, sys; sys.argv = ['', 'app.handler']; "
    "runpy.run_module('watchdog_lambda', run_name='__main__', alter_sys=True)"
)
"""The code of `python -m watchdog_lambda app.handler`, so that other code can run before it."""


class Function:
    """The runtime under a supervisor, connected to the tests' own Runtime API."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def records(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.splitlines() if f'"{event}"' in line]
        for record in found:
            log_schema.check(record)
        return found


@contextlib.contextmanager
def started(
    folder: Path,
    api: RuntimeApi,
    imported: str = "",
    *,
    handler: str = HANDLER,
    command: tuple[str, ...] = ("-m", "watchdog_lambda", "app.handler"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Function]:
    """Start the function; it and all that it has started are ended with the block."""
    (folder / "app.py").write_text(handler.format(imported=imported), encoding="utf-8")
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")
    environ = {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PYTHONPATH": str(Path(watchdog_lambda.__file__).parents[1]),
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "function",
        "WATCHDOG_LAMBDA_LAST_RESORT": "supervise",
        **(environment or {}),
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environ, stdout=output, stderr=output
        )
    function = Function(process, log)
    try:
        yield function
    except BaseException as error:
        error.add_note(f"What the function wrote:\n{function.log}")
        raise
    finally:
        # The runtime's process ends together with it.
        process.kill()
        process.wait(10)


def eventually(is_so: Any, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


# ---- answers -----------------------------------------------------------------------------------


class Refusing(RuntimeApi):
    """Refuses all errors, as the platform does if the invocation has been answered already."""

    refused = 0

    def post(
        self, request_id: str, kind: Literal["response", "error"], text: str, error: str | None
    ) -> HTTPStatus:
        """Refuse an error."""
        if kind == "error":
            self.refused += 1
            return HTTPStatus.FORBIDDEN
        return super().post(request_id, kind, text, error)


def test_handler_answers_if_supervisor_answer_is_refused(tmp_path: Path) -> None:
    """If the platform refuses the supervisor's answer, the process goes on and its answer counts.

    The log has the status.
    """
    settings = {"WATCHDOG_LAMBDA_INTERRUPT": "none"}
    with (
        Refusing(timeout=TIMEOUT) as api,
        started(tmp_path, api, environment=settings) as function,
    ):
        before = api.invoke(LOOK).body
        answer = api.invoke({"do": "hold", "seconds": TIMEOUT - 0.05})
        after = api.invoke(LOOK).body

        assert (answer.kind, answer.body) == ("response", before)
        assert after == before, "the same process"
        assert api.refused == 1, "the answer was sent again"
        [record] = function.records("watchdog.refused")
        assert record["status"] == 403


def test_durable_function_is_left_to_lambda(tmp_path: Path) -> None:
    """A durable function's process ends as without the package, and nothing is posted.

    An error would be final there.
    """
    durable = {"DurableExecutionArn": "arn", "CheckpointToken": "token"}
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api) as function:
        api.invoke(LOOK)
        sent = api.send({"do": "crash", **durable})

        assert function.process.wait(BOUND) == -signal.SIGSEGV
        assert sent.posted is None
        assert function.records("watchdog.crash") == []


def test_timeout_setting_answers_before_the_caller_gives_up(tmp_path: Path) -> None:
    """A caller that gives up before the function's timeout is answered in time.

    TIMEOUT says when it gives up.
    """
    settings = {"WATCHDOG_LAMBDA_TIMEOUT": "1"}
    with RuntimeApi(timeout=60) as api, started(tmp_path, api, environment=settings):
        api.invoke(LOOK)
        answer = api.invoke({"do": "hold", "seconds": 5})

        assert answer.body["errorType"] == "LambdaTimeout"
        assert 0.8 < answer.seconds < 1.0


def test_pythonfaulthandler_writes_crash_to_standard_error(tmp_path: Path) -> None:
    """With PYTHONFAULTHANDLER set a crash's stack is on standard error, besides the record."""
    environment = {"PYTHONFAULTHANDLER": "1"}
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        started(tmp_path, api, environment=environment) as function,
    ):
        body = api.invoke({"do": "crash"}).body
        api.invoke(LOOK)

        assert re.search(r" in app\.py:\d+ \(handler\)$", body["errorMessage"])
        assert "Fatal Python error: Segmentation fault" in function.log


def test_answer_is_delivered_before_the_next_init(tmp_path: Path) -> None:
    """The platform delivers the answer before the new process's init.

    The supervisor asks for the next event first.
    """
    with RuntimeApi(timeout=30) as api, started(tmp_path, api, "time.sleep(3)"):
        api.invoke(LOOK)
        api.wait_for_pollers(1)
        crashed = api.invoke({"do": "crash"})
        began = time.monotonic()
        api.wait_for_pollers(1)
        asked = time.monotonic() - began
        served = api.invoke(LOOK)

        assert crashed.seconds < 2.5
        assert asked < 2.5
        assert served.kind == "response"
        assert served.seconds > 2


def test_crash_in_restarted_init_is_logged(tmp_path: Path) -> None:
    """If a new process dies in its init, the log has the place.

    The supervisor ends with the same status.
    """
    again = 'os.path.exists("again") and os.kill(os.getpid(), signal.SIGSEGV)'
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api, again) as function:
        api.invoke(LOOK)
        (tmp_path / "again").touch()
        api.invoke({"do": "crash"})

        assert function.process.wait(BOUND) == -signal.SIGSEGV
        assert api.init_errors == []
        _, record = function.records("watchdog.crash")
        assert (record["outcome"], record["location"]) == ("init", "app.py:3 (<module>)")


# ---- signals -----------------------------------------------------------------------------------


def test_inherited_sigchld_ignore_is_harmless(tmp_path: Path) -> None:
    """The supervisor notices a child's end although SIGCHLD is ignored by inheritance.

    The kernel would report no end then.
    """
    ignore = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    still = "IGNORED = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN"
    handler = HANDLER.replace('{{"pid"', '{{"ignored": IGNORED, "pid"')
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        started(tmp_path, api, still, handler=handler, command=("-c", ignore + RUN)),
    ):
        assert api.invoke(LOOK).body["ignored"]
        assert api.invoke({"do": "crash"}).body["errorType"] == "RuntimeCrash"
        assert api.invoke(LOOK).body["ignored"]


HEARS: Final = """
def hear(number, frame):
    os.write(1, b"heard\\n")
    os._exit(5)  # on 3.13 an exit waits for the thread that asks for the next event

signal.signal(signal.SIGTERM, hear)
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_sigterm_reaches_the_runtime_once(tmp_path: Path, busy: bool) -> None:  # noqa: FBT001
    """The runtime gets one SIGTERM however many the supervisor gets.

    The supervisor ends when the runtime does.
    """
    # An idle main thread waits for the next event in a call that a signal interrupts.
    environment = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        started(tmp_path, api, HEARS, environment=environment) as function,
    ):
        pid = api.invoke(LOOK).body["pid"]
        api.wait_for_pollers(1)
        if busy:
            api.send({"do": "sleep", "seconds": 60})
            eventually(lambda: api.pollers == 0)
        for _ in range(3):
            function.process.terminate()

        assert function.process.wait(BOUND) == 5
        assert function.log.count("heard") == 1
        eventually(lambda: not is_running(pid))


def test_sigterm_during_restart_ends_both_processes(tmp_path: Path) -> None:
    """SIGTERM during a new process's init ends the process and the supervisor.

    Nothing is started anew.
    """
    slow = 'os.path.exists("again") and (print("slow", flush=True), time.sleep(60))'
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api, slow) as function:
        pid = api.invoke(LOOK).body["pid"]
        (tmp_path / "again").touch()
        assert api.invoke({"do": "crash"}).body["errorType"] == "RuntimeCrash"
        eventually(lambda: "slow" in function.log)
        function.process.terminate()

        assert function.process.wait(BOUND) == -signal.SIGTERM
        assert not is_running(pid)


# ---- freezes -----------------------------------------------------------------------------------


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_freeze_between_invocations_has_no_effect(tmp_path: Path) -> None:
    """A freeze between invocations that lasts longer than the timeout has no effect.

    The same process serves on.
    """
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api) as function:
        before = api.invoke(LOOK).body
        for _ in range(3):
            api.wait_for_pollers(1)
            with frozen(before["supervisor"], before["pid"]):
                time.sleep(TIMEOUT * 1.2)
            assert api.invoke(LOOK).body == before
        assert "watchdog." not in function.log


def test_freeze_during_invocation_leaves_answer_to_handler(tmp_path: Path) -> None:
    """After a freeze during an invocation the handler's own answer counts.

    It comes long after the deadline.
    """
    settings = {"WATCHDOG_LAMBDA_INTERRUPT": "none"}
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api, environment=settings):
        before = api.invoke(LOOK).body
        sent = api.send({"do": "sleep", "seconds": 0.5})
        eventually(lambda: sent.is_taken)
        with frozen(before["supervisor"], before["pid"]):
            time.sleep(TIMEOUT + 1.5)
        answer = sent.answer(within=5)

        assert (answer.kind, answer.body) == ("response", before)


def test_freeze_during_restarted_init_has_no_effect(tmp_path: Path) -> None:
    """A freeze during a new process's init has no effect.

    The next event has been asked for, so the platform may freeze; it delivers the event after
    the thaw.
    """
    slow = 'os.path.exists("again") and (print("slow", flush=True), time.sleep(1))'
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api, slow) as function:
        before = api.invoke(LOOK).body
        (tmp_path / "again").touch()
        api.invoke({"do": "crash"})
        eventually(lambda: "slow" in function.log)
        children = Path(f"/proc/{before['supervisor']}/task/{before['supervisor']}/children")
        [fresh] = [int(pid) for pid in children.read_text(encoding="ascii").split()]
        with frozen(before["supervisor"], fresh):
            time.sleep(TIMEOUT * 1.2)
            sent = api.send(LOOK)
        answer = sent.answer(within=10)

        assert answer.kind == "response"
        assert answer.body == {"pid": fresh, "supervisor": before["supervisor"]}


# ---- memory ------------------------------------------------------------------------------------


def _remove(group: Path) -> None:
    eventually(lambda: not (group / "cgroup.procs").read_text(encoding="ascii"))
    group.rmdir()


@contextlib.contextmanager
def memory_limit(mebibytes: int) -> Iterator[Path]:
    """Create a control group with this memory limit.

    Return the file by which a process joins it.
    """
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / f"watchdog-lambda-{os.getpid()}"
        try:
            group.mkdir()
            try:
                (group / limit).write_text(str(mebibytes << 20), encoding="ascii")
            except OSError:
                group.rmdir()
                continue
        except OSError:
            continue
        try:
            yield group / "cgroup.procs"
        finally:
            _remove(group)
        return
    pytest.skip("a control group cannot be created here")


def test_oom_kill_is_answered(tmp_path: Path) -> None:
    """A kill by the kernel for lack of memory is answered with the peak and the limit.

    The supervisor is spared, and a new process serves on.
    """
    with memory_limit(128) as members:
        join = f"import os; open({str(members)!r}, 'w').write(str(os.getpid())); "
        with (
            RuntimeApi(timeout=20) as api,
            started(tmp_path, api, command=("-c", join + RUN)) as function,
        ):
            before = api.invoke(LOOK).body
            body = api.invoke({"do": "grow"}, within=20).body
            after = api.invoke(LOOK).body

            found = re.fullmatch(
                r"killed by SIGKILL after \d+\.\d s, memory peaked at (\d+) of 128 MB",
                body["errorMessage"],
            )
            assert found is not None, body["errorMessage"]
            assert 64 < int(found[1]) <= 128
            assert after["supervisor"] == before["supervisor"]
            [record] = function.records("watchdog.crash")
            assert (record["signal"], record["memory_limit_mb"]) == ("SIGKILL", 128)


# ---- processes ---------------------------------------------------------------------------------

DAEMON: Final = """
if not os.path.exists("daemon"):
    daemon = subprocess.Popen(["sleep", "60"], start_new_session=True)
    open("daemon", "w").write(str(daemon.pid))
"""


def test_daemon_started_in_init_is_not_ended(tmp_path: Path) -> None:
    """A daemon that the init has started in a session of its own is not ended."""
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api, DAEMON):
        before = api.invoke(LOOK).body
        api.invoke({"do": "crash"})
        after = api.invoke(LOOK).body
        daemon = int((tmp_path / "daemon").read_text(encoding="ascii"))

        assert after["pid"] != before["pid"]
        try:
            assert is_running(daemon)
        finally:
            os.kill(daemon, signal.SIGKILL)


def test_crash_of_forked_child_is_not_reported_as_runtime_crash(tmp_path: Path) -> None:
    """A forked child's crash is not taken for a crash of the runtime's process.

    It writes nothing into the file that the next crash is read from.
    """
    child = """
def crash_in_a_child():
    if (pid := os.fork()) == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    os.waitpid(pid, 0)
"""
    handler = HANDLER.replace(
        "def handler(event, context):\n",
        "def handler(event, context):\n"
        "    if event.get('do') == 'child':\n"
        "        crash_in_a_child()\n"
        "        os._exit(7)\n",
    )
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api, child, handler=handler):
        body = api.invoke({"do": "child"}).body

        assert re.fullmatch(r"exited with status 7 after \d\.\d s", body["errorMessage"])


RECYCLES: Final = """
def recycle_before_the_next_event():
    from awslambdaric import lambda_runtime_client
    from watchdog_lambda._lambda import startup
    client = lambda_runtime_client.BaseLambdaRuntimeClient
    client.wait_next_invocation = lambda _client: startup._supervised[0].recycle()
"""


def test_recycled_process_has_sent_its_own_answer(tmp_path: Path) -> None:
    """A process that asks to be replaced has sent its own answer before.

    It is replaced between two invocations, and the new one serves the next event.
    """
    handler = HANDLER.replace(
        "def handler(event, context):\n",
        "def handler(event, context):\n"
        "    if event.get('do') == 'recycle':\n"
        "        recycle_before_the_next_event()\n",
    )
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        started(tmp_path, api, RECYCLES, handler=handler) as function,
    ):
        before = api.invoke({"do": "recycle"})
        after = api.invoke(LOOK)

        assert (before.kind, after.kind) == ("response", "response")
        assert after.body["pid"] != before.body["pid"]
        assert after.body["supervisor"] == before.body["supervisor"]
        assert "watchdog." not in function.log


# ---- where there is none -----------------------------------------------------------------------


def test_supervise_falls_back_to_exit_if_another_thread_runs(tmp_path: Path) -> None:
    """If another thread runs before the entrypoint, there is no supervisor and exit is used.

    The log says so once, with the reason.
    """
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        encoding="utf-8",
    )
    paths = f"{tmp_path}:{Path(watchdog_lambda.__file__).parents[1]}"
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        started(tmp_path, api, environment={"PYTHONPATH": paths}) as function,
    ):
        assert api.invoke(LOOK).body["supervisor"] == os.getpid()
        said = (
            "LAST_RESORT=supervise is not available, so exit is used instead: "
            "2 threads are already running"
        )
        assert function.log.count(said) == 1


def test_decorator_alone_starts_no_supervisor(tmp_path: Path) -> None:
    """A decorator starts no supervisor, because the handler's code is being imported by then."""
    handler = HANDLER + "\nfrom watchdog_lambda import watch\nhandler = watch(handler)\n"
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        started(
            tmp_path, api, handler=handler, command=("-m", "awslambdaric", "app.handler")
        ) as function,
    ):
        assert api.invoke(LOOK).body["supervisor"] == os.getpid()
        said = "exit is used instead: only the entrypoint, which Lambda imports before the handler"
        assert function.log.count(said) == 1


# ---- what it costs -----------------------------------------------------------------------------


def wake_ups(pid: int) -> int:
    """Return how often a process has given its processor up voluntarily."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_supervisor_wakes_once_per_timeout_length(tmp_path: Path) -> None:
    """The supervisor wakes once in the length of a timeout, whatever the runtime does.

    That holds after a restart, too.
    """
    with RuntimeApi(timeout=TIMEOUT) as api, started(tmp_path, api):
        supervisor = api.invoke(LOOK).body["supervisor"]
        for do in ({}, {"do": "crash"}):
            api.invoke(do)
            api.invoke(LOOK)
            time.sleep(TIMEOUT)
            before, began, calls = wake_ups(supervisor), time.monotonic(), 0
            while time.monotonic() < began + 2 * TIMEOUT:
                api.invoke(LOOK)
                calls += 1
            seconds = time.monotonic() - began

            assert calls > 10
            assert wake_ups(supervisor) - before <= seconds / (TIMEOUT - 0.25) + 1


NOT_AFTER_THE_FORK: Final = """
import os, sys
me, has_forked = os.getpid(), []
def note(event, arguments):
    if event == "os.fork":
        has_forked.append(True)
    if has_forked and os.getpid() == me and event in ("import", "exec", "compile"):
        os.write(2, f"the supervisor: {event} {arguments[0]}\\n".encode())
sys.addaudithook(note)
"""


def test_supervisor_imports_nothing_after_the_fork(tmp_path: Path) -> None:
    """The supervisor imports nothing after the fork, which would cost it memory and time."""
    (tmp_path / "sitecustomize.py").write_text(NOT_AFTER_THE_FORK, encoding="utf-8")
    paths = f"{tmp_path}:{Path(watchdog_lambda.__file__).parents[1]}"
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        started(tmp_path, api, environment={"PYTHONPATH": paths}) as function,
    ):
        api.invoke(LOOK)
        api.invoke({"do": "crash"})
        api.invoke({"do": "hold", "seconds": 5})
        api.invoke(LOOK)

        assert "the supervisor: " not in function.log


def test_snapshot_restore_is_requested_once(tmp_path: Path) -> None:
    """The restore from the snapshot is requested once, and a new process finds itself restored."""
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}

    class Counting(RuntimeApi):
        restores = 0

        def restored(self, connection: Any) -> bool:
            self.restores += 1
            return super().restored(connection)

    with Counting(timeout=TIMEOUT) as api, started(tmp_path, api, environment=environment):
        api.wait_for_snapshot()
        api.restore()
        api.invoke(LOOK)
        api.invoke({"do": "crash"})
        api.invoke(LOOK)

        assert api.restores == 1
