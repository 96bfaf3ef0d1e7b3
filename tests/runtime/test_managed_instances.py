"""Tests of Managed Instances: several workers, forked before the handler's import, and no kill.

Lambda sets a deadline there, but does not enforce it. The runtime is the real one; it talks to
:mod:`.runtime_api`, and in the last tests to AWS's emulator.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

import watchdog_lambda
from tools.emulator import fetch_emulator
from watchdog_lambda.cli.emulator import _free_ports

from .runtime_api import Answer, NoAnswer, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

TIMEOUT: Final = 2.0
FIRES_AT: Final = TIMEOUT * 3 / 4  # the default grace period is 3 s, and never more than a quarter
SLACK: Final = 0.3  # allowance for a busy machine; still before the hard deadline
WORKERS: Final = 2
C_LIBRARY_SIGNALS: Final = 0b111 << 31
"""Signals 32 to 34, which the C library takes with the first thread that a process starts."""
BOGUS: Final = 3_000_000.0
"""The time in seconds that the emulator gives in this mode: a million times the timeout of 3 s."""

HANDLER: Final = '''
import ctypes, json, os, time

LIBC, LIBC_WITH_GIL = ctypes.CDLL(None), ctypes.PyDLL(None)

class timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

def handler(event, context):
    # One write: two workers may share the descriptor.
    begins = {"begins": context.aws_request_id, "pid": os.getpid()}
    os.write(1, (json.dumps(begins) + "\\n").encode())
    if "hold" in event:
        hold_in_a_function_whose_name_is_long(event["hold"], event.get("depth", 0))
    if "crash" in event:
        ctypes.string_at(0)
    if "blind" in event:
        be_blind(event["blind"], LIBC_WITH_GIL if event.get("gil") else LIBC)
        if event.get("then_sleep"):
            time.sleep(60)
    return {"pid": os.getpid(), "threads": len(os.listdir("/proc/self/task"))}

def hold_in_a_function_whose_name_is_long(seconds, depth):
    if depth:
        hold_in_a_function_whose_name_is_long(seconds, depth - 1)
    else:
        time.sleep(seconds)

def be_blind(seconds, libc):
    """Wait in C code that no signal wakes: for a lock that this thread has itself."""
    mutex = ctypes.create_string_buffer(64)
    until = time.time() + seconds
    ends = timespec(int(until), int(until % 1 * 1e9))
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_timedlock(mutex, ctypes.byref(ends))
'''
HOOK: Final = """
import json, os
from watchdog_lambda import shutdown_hook
from plain import handler

@shutdown_hook
def flush(details):
    flushed = {"flushed": details.request_id, "pid": os.getpid()}
    os.write(1, (json.dumps(flushed) + "\\n").encode())
"""

WATCHED: Final = ("watchdog_lambda", "hooked.handler")
PLAIN: Final = ("awslambdaric", "plain.handler")
CORRECTED: Final = {"WATCHDOG_LAMBDA_TIMEOUT": str(TIMEOUT)}
# AWS's own runtimes set this, unlike images: their workers poll from a second thread.
POLLS_IN_THREAD: Final = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}


class Instance:
    """One execution environment: the runtime's first process and the workers that it forks."""

    def __init__(
        self,
        api: RuntimeApi,
        folder: Path,
        runtime: tuple[str, ...] = WATCHED,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        (folder / "plain.py").write_text(HANDLER, encoding="utf-8")
        (folder / "hooked.py").write_text(HOOK, encoding="utf-8")
        self._folder = folder
        self._log = folder / "log"
        self._command = [sys.executable, "-m", *runtime]
        kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")
        self._environment = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "PYTHONPATH": str(Path(watchdog_lambda.__file__).parents[1]),
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_MAX_CONCURRENCY": str(WORKERS),
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        if error is not None:
            error.add_note(f"What the function wrote:\n{self.log}")

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def workers(self) -> set[int]:
        """The processes that the first one has forked."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return set(map(int, children.split()))

    def records(self, key: str) -> dict[str, dict[str, Any]]:
        """The JSON lines that have this key, by the key's value."""
        return {record[key]: record for record in self._json() if key in record}

    def reports(self) -> list[dict[str, Any]]:
        return [record for record in self._json() if record.get("event") == "watchdog.timeout"]

    def _json(self) -> Iterator[dict[str, Any]]:
        for line in self.log.splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record


@contextlib.contextmanager
def instance(
    folder: Path,
    runtime: tuple[str, ...] = WATCHED,
    *,
    told: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[RuntimeApi, Instance]]:
    """Start the API and the runtime, and wait until every worker asks for an event."""
    with (
        RuntimeApi(timeout=TIMEOUT, told=told) as api,
        Instance(api, folder, runtime, environment) as started,
    ):
        api.wait_for_pollers(WORKERS)
        yield api, started


def both(api: RuntimeApi, event: dict[str, object]) -> list[Answer]:
    """Send two events at once, so that each worker gets one."""
    api.wait_for_pollers(WORKERS, within=2)
    sent = [api.send({"hold": 0.2, **event}) for _ in range(WORKERS)]
    return [each.answer(within=TIMEOUT + 5) for each in sent]


def status(pid: int, name: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s*(.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def assert_timed_out(answer: Answer) -> None:
    """Check for an error one grace period before the hard deadline."""
    assert answer.kind == "error"
    assert answer.body["errorType"] == "LambdaTimeout"
    assert FIRES_AT - 0.05 < answer.seconds < FIRES_AT + SLACK


@pytest.mark.parametrize("environment", [{}, POLLS_IN_THREAD], ids=["image", "aws"])
def test_stuck_workers_are_answered_in_time_and_keep_serving(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Two workers that are stuck at once are interrupted, each by its own watchdog.

    Each runs its hook, writes its record and serves the next event.
    """
    with instance(tmp_path, environment=environment) as (api, started):
        before = {answer.worker for answer in both(api, {})}
        stuck = [api.send({"hold": 60}) for _ in range(WORKERS)]
        answers = [each.answer(within=TIMEOUT + 5) for each in stuck]
        after = {answer.worker for answer in both(api, {})}

        for answer in answers:
            assert_timed_out(answer)
        assert before == after == started.workers
        begun, flushed = started.records("begins"), started.records("flushed")
        reports = {report["request_id"]: report for report in started.reports()}
        ids = {each.request_id for each in stuck}
        assert flushed.keys() == reports.keys() == ids
        assert {begun[each]["pid"] for each in ids} == before
        for each in ids:
            assert flushed[each]["pid"] == begun[each]["pid"]
            assert reports[each]["outcome"] == "raised"
            assert reports[each]["location"].startswith("plain.py:")
            assert [hook["outcome"] for hook in reports[each]["hooks"]] == ["ok"]
            assert [i["outcome"] for i in reports[each]["interrupts"]] == ["delivered"]


def test_stuck_worker_does_not_delay_the_other(tmp_path: Path) -> None:
    """A stuck worker does not affect the other one.

    That serves its invocations without an interrupt.
    """
    with instance(tmp_path) as (api, started):
        stuck = api.send({"hold": 60})
        others = set()
        while stuck.posted is None:
            others.add(api.invoke({"hold": 0.1}).worker)

        assert_timed_out(stuck.answer(within=0))
        assert len(others) == 1
        assert len(started.reports()) == 1


def test_without_the_package_workers_stay_pinned(tmp_path: Path) -> None:
    """Without the package nothing ends stuck invocations.

    Once all workers are stuck, no event is served.
    """
    with instance(tmp_path, PLAIN) as (api, started):
        stuck = [api.send({"hold": 60}) for _ in range(WORKERS)]
        with pytest.raises(NoAnswer, match="a worker has it"):
            stuck[0].answer(within=TIMEOUT + 1)

        assert stuck[1].posted is None
        with pytest.raises(NoAnswer, match="no worker has taken it"):
            api.invoke({}, within=0.5)
        assert len(started.workers) == WORKERS


def test_timeout_setting_replaces_bogus_deadline(tmp_path: Path) -> None:
    """The TIMEOUT setting corrects the emulator's bogus deadline."""
    with instance(tmp_path, told=BOGUS, environment=CORRECTED) as (api, started):
        stuck = [api.send({"hold": 60}) for _ in range(WORKERS)]
        for each in stuck:
            assert_timed_out(each.answer(within=TIMEOUT + 5))

        assert {answer.worker for answer in both(api, {})} == started.workers
        assert "not watched" not in started.log


def test_bogus_deadline_gives_one_warning_per_worker(tmp_path: Path) -> None:
    """With a bogus deadline the handler runs unwatched.

    Each worker logs once which setting helps.
    """
    with instance(tmp_path, told=BOGUS) as (api, started):
        for _ in range(3):
            answers = both(api, {"hold": TIMEOUT / 4})
            assert {answer.worker for answer in answers} == started.workers
            # No watchdog is started if nothing is watched.
            assert [answer.body["threads"] for answer in answers] == [1] * WORKERS

        warnings = [line for line in started.log.splitlines() if "not watched" in line]
        assert len(warnings) == WORKERS
        for warning in warnings:
            # In ms, less the time that has passed of the first invocation.
            assert re.search(r"remaining time is (3000000|2999999)\d{3} ms; ", warning)
            assert "set WATCHDOG_LAMBDA_TIMEOUT to" in warning
        assert started.reports() == []


@pytest.mark.parametrize("gil", [False, True], ids=["gil-free", "gil-held"])
def test_unreachable_code_is_interrupted_once_it_returns(tmp_path: Path, *, gil: bool) -> None:
    """A handler in C code is interrupted once the call returns, even after the hard deadline.

    Nothing else would ever end it.
    """
    with instance(tmp_path) as (api, started):
        blind = TIMEOUT + 1.0
        answer = api.invoke({"blind": blind, "gil": gil, "then_sleep": True}, within=blind + 5)

        assert answer.body["errorType"] == "LambdaTimeout"
        message = answer.body["errorMessage"]
        assert re.search(r", 1\.[0-2] s after the 2\.0 s limit, in plain\.py", message), message
        assert blind <= answer.seconds < blind + SLACK
        assert {answer.worker for answer in both(api, {})} == started.workers
        [report] = started.reports()
        assert report["location"].startswith("plain.py:")
        assert [hook["outcome"] for hook in report["hooks"]] == ["ok"]
        # While C code holds the GIL the watchdog cannot act; afterwards there is no deadline left
        # to meet.
        assert report["outcome"] == ("raised" if gil else "stuck")


def test_exit_settings_have_no_effect(tmp_path: Path) -> None:
    """The log says that the exit settings have no effect.

    Lambda does not replace a worker that ends.
    """
    settings = {"WATCHDOG_LAMBDA_LAST_RESORT": "exit", "WATCHDOG_LAMBDA_SIGTERM": "1"}
    with instance(tmp_path, environment=settings) as (api, started):
        before = started.workers
        blind = TIMEOUT + 0.5
        answer = api.invoke({"blind": blind, "then_sleep": True}, within=blind + 5)

        assert answer.body["errorType"] == "LambdaTimeout"
        assert {answer.worker for answer in both(api, {})} == before == started.workers
        [report] = started.reports()
        assert report["outcome"] == "stuck"
        assert report["last_resort"] == "not exit: not available here"
        warning = "LAST_RESORT=exit, SIGTERM=1 has no effect in Managed Instances"
        assert started.log.count(warning) == WORKERS


@pytest.mark.parametrize("environment", [{}, POLLS_IN_THREAD], ids=["image", "aws"])
def test_supervised_worker_is_replaced(tmp_path: Path, environment: dict[str, str]) -> None:
    """Each worker has a supervisor of its own, so a hang or a crash costs no worker."""
    settings = {"WATCHDOG_LAMBDA_LAST_RESORT": "supervise", **environment}
    with instance(tmp_path, environment=settings) as (api, started):
        supervisors = started.workers
        before = {answer.body["pid"] for answer in both(api, {})}
        hang = api.send({"blind": 60, "gil": True})
        crash = api.send({"crash": True})
        crashed, hung = crash.answer(within=2), hang.answer(within=TIMEOUT + 5)
        after = {answer.body["pid"] for answer in both(api, {})}

        assert crashed.body["errorType"] == "RuntimeCrash"
        assert crashed.body["errorMessage"].startswith("killed by SIGSEGV after 0.")
        assert hung.body["errorType"] == "LambdaTimeout"
        assert hung.seconds < TIMEOUT
        assert before.isdisjoint(after)
        assert len(after) == WORKERS
        assert started.workers == supervisors


def test_package_is_inactive_before_the_first_invocation(tmp_path: Path) -> None:
    """Before the first invocation the package has no thread, no timer and no signal.

    So what is forked is the plain runtime.
    """
    with instance(tmp_path, PLAIN) as (_, plain):
        [untouched] = {status(pid, "SigCgt") for pid in (plain.process.pid, *plain.workers)}
    with instance(tmp_path) as (api, started):
        parent, workers = started.process.pid, started.workers
        for pid in (parent, *workers):
            assert status(pid, "Threads") == "1"
            assert status(pid, "SigCgt") == untouched
            assert timers(pid) == 0

        answers = both(api, {})

        assert [answer.body["threads"] for answer in answers] == [2] * WORKERS
        assert status(parent, "Threads") == "1"
        assert status(parent, "SigCgt") == untouched
        assert timers(parent) == 0
        for pid in workers:
            assert status(pid, "Threads") == "2"  # the second one is the watchdog
            taken = int(status(pid, "SigCgt"), 16) ^ int(untouched, 16)
            # One signal is the nudge's. The other one makes faulthandler dump the stacks where
            # nothing else can act, and has two timers.
            ours = 1 << (signal.SIGURG - 1) | 1 << (signal.SIGRTMAX - 1)
            assert taken & ~C_LIBRARY_SIGNALS == ours
            assert timers(pid) == 3


def timers(pid: int) -> int:
    """Return how many POSIX timers a process has."""
    text = Path(f"/proc/{pid}/timers").read_text(encoding="ascii")
    return len(re.findall(r"^ID:", text, re.MULTILINE))


# Where this warning is made an error, CPython drops it.
@pytest.mark.parametrize("warnings", ["error", "always"])
def test_fork_gives_no_python_warning(tmp_path: Path, warnings: str) -> None:
    """Python warns of no fork in a process that has threads, as it would from 3.12 on.

    The package must not have started a thread before the fork.
    """
    environment = {"PYTHONWARNINGS": warnings, **POLLS_IN_THREAD}
    with instance(tmp_path, environment=environment) as (api, started):
        stuck = [api.send({"hold": 60}) for _ in range(WORKERS)]
        for each in stuck:
            assert_timed_out(each.answer(within=TIMEOUT + 5))

        assert {answer.worker for answer in both(api, {})} == started.workers
        assert "Warning" not in started.log


@pytest.mark.parametrize(
    "handler", ["no_such_module.handler", "plain.no_such_function", "nodothere", "sys.exit"]
)
def test_unusable_handler_fails_as_without_the_package(tmp_path: Path, handler: str) -> None:
    """Each worker posts the same error for an unusable handler.

    The function ends as without the package.
    """
    assert fail(tmp_path, ("watchdog_lambda", handler)) == fail(tmp_path, ("awslambdaric", handler))


def test_bad_setting_fails_as_a_bad_handler_does(tmp_path: Path) -> None:
    """Each worker posts the error of a bad setting at init, as the runtime does for any error."""
    exit_status, errors = fail(tmp_path, WATCHED, {"WATCHDOG_LAMBDA_GRACE_PERIOD": "soon"})
    bare_status, bare_errors = fail(tmp_path, ("awslambdaric", "no_such_module.handler"))

    assert exit_status == bare_status
    assert len(errors) == len(bare_errors)
    for error_type, kind, message in errors:
        assert error_type == kind == "ConfigurationError"
        assert "WATCHDOG_LAMBDA_GRACE_PERIOD='soon'" in message


def fail(
    folder: Path, runtime: tuple[str, ...], environment: Mapping[str, str] | None = None
) -> tuple[int, list[tuple[str | None, str, str]]]:
    """Return the errors that a function which cannot start has posted, and its exit status."""
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        Instance(api, folder, runtime, environment) as started,
    ):
        exit_status = started.process.wait(15)
        posted = api.init_errors
    assert [error.is_first for error in posted] == [True] + [False] * (WORKERS - 1)
    return exit_status, [
        (error.error_type, error.body["errorType"], error.body["errorMessage"]) for error in posted
    ]


class LogSockets:
    """Stands for Lambda's end of the connections to which each worker writes its two streams."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._received: list[bytearray] = []
        self._readers: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="log-acceptor", daemon=True)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The workers have ended by now, so their connections are closed.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._listener.close()
        for reader in self._readers:
            reader.join(5)

    @property
    def texts(self) -> list[str]:
        """Return what has been received over each connection so far, without the silent ones."""
        return [bytes(each).decode() for each in self._received if each]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                reader = threading.Thread(target=self._read, args=(connection,), daemon=True)
                reader.start()
                self._readers.append(reader)

    def _read(self, connection: socket.socket) -> None:
        received = bytearray()
        self._received.append(received)
        with connection:
            while data := connection.recv(65536):
                received += data


def test_each_worker_reports_over_its_own_log_socket(tmp_path: Path) -> None:
    """Each worker's record goes to its own log socket, completely.

    Lambda replaces a worker's descriptors 1 and 2 by sockets.
    """
    with (
        # tmp_path may be too long: a socket's path has at most 107 bytes.
        tempfile.TemporaryDirectory() as folder,
        LogSockets(Path(folder, "log")) as sockets,
    ):
        environment = {"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET": str(sockets.path)}
        with instance(tmp_path, environment=environment) as (api, started):
            # With such a stack the record exceeds what a pipe takes in one piece.
            stuck = [api.send({"hold": 60, "depth": 90}) for _ in range(WORKERS)]
            for each in stuck:
                assert_timed_out(each.answer(within=TIMEOUT + 5))
            assert {answer.worker for answer in both(api, {})} == started.workers

        assert started.log == ""
    texts = sockets.texts
    assert len(texts) == WORKERS
    for text in texts:
        [line] = [line for line in text.splitlines() if '"event": "watchdog.timeout"' in line]
        assert len(line) > 4096
        assert json.loads(line)["request_id"] in {each.request_id for each in stuck}


# ---- AWS's emulator ------------------------------------------------------------------------------

# The Managed Instances mode takes no command: it runs /var/task/bootstrap, as user 993. So the
# emulator gets a /var of its own, which exists as long as it runs and has only files that this user
# may read.
ENTER: Final = """
mount -t tmpfs -o mode=755 tmpfs /var
mkdir /var/lang /var/runtime /var/task
mount --bind "$1" /var/lang
mount --bind "$2" /var/runtime
cp -r "$3"/* /var/task
chmod -R a+rX /var/task
shift 3
exec "$@"
"""
NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
INVOCATIONS: Final = "/2015-03-31/functions/function/invocations"


def lacking() -> str | None:
    """Return what this machine lacks to run the emulator in this mode; None if nothing."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        return "needs Linux, root and unshare, for a mount namespace with a /var of its own"
    probe = subprocess.run(
        [*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/var"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return f"needs a mount namespace: {probe.stderr.strip()}" if probe.returncode else None


class EmulatedInstances:
    """The emulator in its Managed Instances mode, with a maximum number of workers."""

    def __init__(
        self, folder: Path, runtime: tuple[str, ...], environment: Mapping[str, str]
    ) -> None:
        task = folder / "task"
        shutil.copytree(Path(watchdog_lambda.__file__).parent, task / "watchdog_lambda")
        (task / "plain.py").write_text(HANDLER, encoding="utf-8")
        (task / "hooked.py").write_text(HOOK, encoding="utf-8")
        python = Path(sys.executable).resolve().relative_to(Path(sys.base_prefix).resolve())
        (task / "bootstrap").write_text(
            "#!/bin/sh\n"
            "export PYTHONHOME=/var/lang PYTHONPATH=/var/task:/var/runtime\n"
            f"exec /var/lang/{python} -m {' '.join(runtime)}\n",
            encoding="utf-8",
        )
        (task / "bootstrap").chmod(0o755)
        self._log = folder / "log"
        self._port, runtime_port = _free_ports(2)
        self._command = [*NAMESPACES, "/bin/sh", "-euc", ENTER, "enter"]
        self._command += [sys.base_prefix, sysconfig.get_path("purelib"), str(task)]
        self._command += [str(fetch_emulator())]
        self._command += ["--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
        self._command += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
        self._environment = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_MAX_CONCURRENCY": str(WORKERS),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(round(TIMEOUT)),
            **environment,
        }
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd="/",  # a directory that has no bootstrap
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.serving()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Its child is the first process of the namespace, and the others end with it.
        self._process.kill()
        self._process.wait(10)
        if error is not None:
            error.add_note(f"The emulator's log:\n{self.log}")

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def invoke(self, event: dict[str, object], *, within: float = 0) -> tuple[int, Any, float]:
        """Return the status, decoded body and seconds of one invocation.

        A worker that has just answered is not ready for the next event yet, and the emulator
        refuses an event while no worker is ready. A refused event is sent again, for up to `within`
        seconds.
        """
        until = time.monotonic() + within
        while True:
            start = time.monotonic()
            status, body = self._invoke(event)
            refused = status != HTTPStatus.OK and body["errorType"] == "Runtime.Unavailable"
            if not refused or time.monotonic() > until:
                return status, body, time.monotonic() - start
            time.sleep(0.02)

    def _invoke(self, event: dict[str, object]) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT + 5)
        try:
            connection.request("POST", INVOCATIONS, json.dumps(event))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def both(self, event: dict[str, object], *, within: float = 0) -> list[tuple[int, Any, float]]:
        """Invoke once for each worker, at the same time."""
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(partial(self.invoke, within=within), [event] * WORKERS))

    def serving(self, *, within: float = 15.0) -> set[int]:
        """Return the workers' pids, once all of them serve at the same time.

        A refused event is not sent again here, because one worker could serve both in turn.
        """
        until = time.monotonic() + within
        while True:
            assert self._process.poll() is None, "the emulator has ended"
            with contextlib.suppress(OSError):
                answers = self.both({"hold": 0.2})
                if all(status == HTTPStatus.OK for status, _, _ in answers):
                    return {body["pid"] for _, body, _ in answers}
            assert time.monotonic() < until, f"fewer than {WORKERS} workers serve events"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def emulation() -> None:
    """Skip the test where the emulator cannot run in this mode."""
    reason = lacking()
    if reason is not None:
        pytest.skip(f"the emulator's Managed Instances mode: {reason}")


@pytest.mark.usefixtures("emulation")
def test_emulator_workers_are_answered_in_time_and_keep_serving(tmp_path: Path) -> None:
    """The emulator's stuck workers are interrupted in time and serve on.

    This is the same end to end, with the emulator's defective deadline and its JSON log.
    """
    with EmulatedInstances(tmp_path, WATCHED, CORRECTED) as emulator:
        before = emulator.serving()
        stuck = emulator.both({"hold": 60}, within=1)
        after = emulator.serving(within=2)

        assert len(before) == WORKERS
        assert before == after
        for _, body, seconds in stuck:
            assert body["errorType"] == "LambdaTimeout"
            assert FIRES_AT - 0.05 < seconds < FIRES_AT + SLACK
        # The handler cannot be reached until after the hard deadline. The caller gets the error at
        # the deadline, and the worker becomes usable again later.
        _, late, _ = emulator.invoke({"blind": TIMEOUT + 0.5, "then_sleep": True}, within=1)
        assert late["errorType"] == "Sandbox.Timedout"
        assert emulator.serving(within=2) == before
        assert emulator.log.count('"event": "watchdog.timeout"') == WORKERS + 1
        assert emulator.log.count('"flushed"') == WORKERS + 1


@pytest.mark.usefixtures("emulation")
def test_emulator_workers_stay_pinned_without_the_package(tmp_path: Path) -> None:
    """Without the package the caller is answered at the hard deadline. The worker stays busy."""
    with EmulatedInstances(tmp_path, PLAIN, {}) as emulator:
        for _, body, seconds in emulator.both({"hold": 60}, within=1):
            assert body["errorType"] == "Sandbox.Timedout"
            assert TIMEOUT - 0.05 < seconds < TIMEOUT + SLACK

        with pytest.raises(AssertionError, match="fewer than 2 workers serve"):
            emulator.serving(within=1)
        assert "Runtime.Unavailable" in emulator.log
