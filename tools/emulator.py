"""AWS's Runtime Interface Emulator (RIE), fetched once and run as a context manager.

    with Emulator([sys.executable, "-m", "awslambdaric", "app.handler"], cwd=here) as emulator:
        emulator.invoke({"warm": True})
        print(emulator.invoke({"name": "World"}).json())

Traps of the emulator that this module does not hide, for they decide what a test may claim:

* The deadline starts when the HTTP request arrives, so the first invocation pays for the import of
  the handler. Send one for warming up first, and give it a timeout that the import fits into: after
  an init that timed out the next invocation is an empty 502.
* Every answer of a living function is HTTP 200, errors and ``Task timed out`` included; a process
  that ended is 502. Judge by the body.
* The deadline is in whole seconds, and the answer of a killed function comes some 100 ms late.
* Two invocations at once crash it.
* It takes its own flags (``--log-level``, ``--runtime-api-address``, ...) out of the function's
  command line, wherever they stand.
* There is no freeze between invocations, and no limit of 10 s for init.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = [
    "Emulator",
    "EmulatorError",
    "EmulatorUnavailable",
    "Line",
    "Response",
    "fetch_emulator",
]

_ROOT: Final = Path(__file__).resolve().parent.parent
_PIN: Final = _ROOT / "requirements" / "emulator.txt"
_CACHE: Final = _ROOT / ".cache" / "emulator"
_MEMBERS: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_INVOCATIONS: Final = "/2015-03-31/functions/function/invocations"

# What the emulator sets for the function, or what would steer it: never taken over from the shell
# that runs the tests, or a developer's settings would decide over them.
_NOT_INHERITED: Final = re.compile(
    r"AWS_LAMBDA_|_?LAMBDA_|WATCHDOG_LAMBDA_|POWERTOOLS_|_HANDLER$|_X_AMZN_|AWS_EXECUTION_ENV$"
)


class EmulatorUnavailable(RuntimeError):
    """There is no emulator for this machine, or it could not be fetched; the message says why."""


class EmulatorError(RuntimeError):
    """The emulator itself failed: did not start, crashed, or gave no answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """What the caller of the function got."""

    status: int
    body: str
    seconds: float
    """From the request's start to the last byte of the answer; not to the end of its log."""

    def json(self) -> object:
        """Return the body, decoded; raises ``json.JSONDecodeError`` for ``Task timed out ...``."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what the emulator and the function wrote."""

    at: float
    """``time.monotonic()`` when it was read here."""
    stream: str
    """``stdout`` has the function's two streams and the platform's lines, ``stderr`` the rest."""
    text: str


def fetch_emulator() -> Path:
    """Return the emulator's binary, downloaded at the first call and kept in ``.cache`` after it.

    Raises:
        EmulatorUnavailable: No emulator for this platform, or the download failed.
    """
    architecture = _MEMBERS.get(platform.machine().lower())
    if sys.platform != "linux" or architecture is None:
        raise EmulatorUnavailable(
            f"AWS's emulator runs on Linux on x86_64 and arm64, not on {sys.platform} on "
            f"{platform.machine()}; run these tests in a Linux container"
        )
    pin = re.search(r"--hash=sha256:([0-9a-f]{64})", _PIN.read_text(encoding="utf-8"))
    if pin is None:
        raise EmulatorUnavailable(f"{_PIN} pins no sha256; restore the file from version control")
    binary = _CACHE / pin[1][:12] / architecture / "aws-lambda-rie"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        # Beside its final place, for a rename is atomic only within one file system. Two that fetch
        # at once both succeed, and neither ever runs half a file.
        with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
            extracted = _extract(_download(Path(scratch)), architecture)
            extracted.chmod(0o755)
            extracted.replace(binary)
    return binary


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check"]
    command += ["--requirement", str(_PIN), "--dest", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=600, cwd=folder
        )
    except subprocess.TimeoutExpired as error:
        raise EmulatorUnavailable(
            f"pip did not download what {_PIN} names within 600 s; check the network and try again"
        ) from error
    if done.returncode != 0:
        remedy = "check the network and pip's index settings, then try again"
        if "No module named pip" in done.stderr:
            remedy = f"install pip with: {sys.executable} -m ensurepip"
        raise EmulatorUnavailable(
            f"pip could not download what {_PIN} names (exit status {done.returncode}); {remedy}\n"
            f"{done.stderr.strip()}"
        )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise EmulatorUnavailable(f"{_PIN} must name one wheel; pip downloaded {len(wheels)}")
    return wheels[0]


def _extract(wheel: Path, architecture: str) -> Path:
    member = f"samcli/local/rapid/aws-lambda-rie-{architecture}"
    with zipfile.ZipFile(wheel) as archive:
        try:
            return Path(archive.extract(member, wheel.parent))
        except KeyError as error:
            raise EmulatorUnavailable(
                f"{wheel.name} has no {member}; pin a version that has it in {_PIN}"
            ) from error


class Emulator:
    """One function in the emulator: started on entry, ended with all it started on exit.

    Args:
        command: The runtime and its handler, for example
            ``[sys.executable, "-m", "awslambdaric", "app.handler"]``.
        cwd: The function's working directory.
        environment: What is set on top of this process's environment; of the latter, what concerns
            Lambda is left out.
        timeout: The function's timeout; whole seconds, as in Lambda.
        memory_size: The function's memory in MB; told to the function, not enforced.
        function_name: The function's name.
        warm_up: An event to invoke the function with at the start, so that no later invocation pays
            for the init. None: don't.

    Thread: any, but one invocation at a time.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: int = 3,
        memory_size: int = 128,
        function_name: str = "function",
        warm_up: object = None,
    ) -> None:
        if timeout < 1:
            raise ValueError(f"timeout={timeout!r} is not a whole number of seconds from 1 up")
        self.timeout = timeout
        self._command = list(command)
        self._cwd = cwd
        self._warm_up = warm_up
        self._environment = {
            name: value for name, value in os.environ.items() if not _NOT_INHERITED.match(name)
        }
        self._environment |= {
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_size),
            "AWS_LAMBDA_FUNCTION_NAME": function_name,
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._drains: list[threading.Thread] = []
        self._lines: list[Line] = []  # guarded by _news; written by the drains
        self._news = threading.Condition()
        self._invoking = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the emulator; again after ``close`` if need be. The log goes on where it was.

        Raises:
            EmulatorUnavailable: See ``fetch_emulator``.
            EmulatorError: It did not come up, or the warm-up ended the function's process.
        """
        if self._process is not None:
            raise EmulatorError("the emulator runs already; close it first")
        binary = fetch_emulator()
        try:
            self._come_up(binary)
            if self._warm_up is not None:
                self._warm()
        except BaseException:
            self.close()
            raise

    def _warm(self) -> None:
        if self.invoke(self._warm_up).status != HTTPStatus.OK:
            raise EmulatorError(f"the function did not survive its start\n{self.log_text}")

    def _come_up(self, binary: Path) -> None:
        # The ports are free when they are chosen; a moment later they still are, most likely.
        for _ in range(5):
            before = len(self.lines)
            self._launch(binary)
            if self._is_listening():
                return
            self.close()
            if not any("address already in use" in line.text for line in self.lines[before:]):
                break
        raise EmulatorError(f"the emulator did not start\n{self.log_text}")

    def invoke(self, event: object, *, timeout: float | None = None) -> Response:
        """Invoke the function and wait for its answer, and for the log to catch up with it.

        Args:
            event: Anything that ``json.dumps`` takes.
            timeout: Seconds to wait for; by default the function's timeout and 10 s more.

        Raises:
            EmulatorError: No answer in time, or the emulator is gone.
        """
        if not self._invoking.acquire(blocking=False):
            raise EmulatorError("two invocations at once crash the emulator; make them serial")
        try:
            since = len(self.lines)
            response = self._post(
                json.dumps(event), self.timeout + 10 if timeout is None else timeout
            )
            if response.status == HTTPStatus.OK:
                # The answer overtakes the log. This line is written once the runtime has asked for
                # the next event, into the pipe that the function writes to: what the function wrote
                # is before it.
                self.wait_for_line(lambda text: "REPORT RequestId: " in text, since=since)
            return response
        finally:
            self._invoking.release()

    def _post(self, body: str, timeout: float) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        start = time.monotonic()
        try:
            connection.request("POST", _INVOCATIONS, body)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            waited = time.monotonic() - start
            # The connection may be reset a moment before the process counts as ended.
            is_gone = self._process is None or _has_ended(self._process.pid, within=0.2)
            raise EmulatorError(
                f"no answer to {body} within {waited:.1f} s: {error!r}; "
                f"the emulator {'is gone' if is_gone else 'still runs'}\n{self.log_text}"
            ) from error
        finally:
            connection.close()
        return Response(answer.status, text, time.monotonic() - start)

    @property
    def is_running(self) -> bool:
        """Whether the emulator's own process is alive; says nothing of the function's."""
        return self._process is not None and not _has_ended(self._process.pid, within=0)

    @property
    def lines(self) -> list[Line]:
        """What the emulator and the function have written so far; a copy."""
        with self._news:
            return list(self._lines)

    @property
    def log_text(self) -> str:
        """The same as one text."""
        return "\n".join(line.text for line in self.lines)

    def wait_for_line(
        self, predicate: Callable[[str], bool], timeout: float = 5.0, *, since: int = 0
    ) -> Line:
        """Return the first line that the predicate holds for, waiting for it if need be.

        What the function's process writes while no invocation is under way, or on its way down, is
        read here in its own time.

        Args:
            predicate: Called with each line's text.
            timeout: Seconds to wait for.
            since: The number of lines to leave out from the start: what ``len(lines)`` was before.

        Raises:
            EmulatorError: No such line in time.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for line in self._lines[since:]:
                    if predicate(line.text):
                        return line
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._news.wait(remaining)
        raise EmulatorError(f"the line did not come within {timeout} s\n{self.log_text}")

    def close(self) -> None:
        """End the emulator and all that it started. Idempotent, and at ease with a dead one."""
        process = self._process
        if process is None:
            return
        self._process = None
        # It kills the function by itself on SIGTERM; one with an extension gets its own SIGTERM
        # first, and 600 ms.
        os.kill(process.pid, signal.SIGTERM)
        if not _has_ended(process.pid, within=3.0):
            os.kill(process.pid, signal.SIGKILL)
            _has_ended(process.pid, within=3.0)
        # The emulator leads a session of its own, which its children stay in although each of them
        # leads a process group. So nobody is forgotten, not even after a crash, and nobody else is
        # touched: the session's id is that of the emulator, which is not given to another process
        # before the emulator is reaped (which is why nothing here calls poll()).
        for _ in range(100):
            members = list(_session_members(process.pid))
            if not members:
                break
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        process.wait(timeout=5)
        for drain in self._drains:
            drain.join(timeout=2)
        self._drains.clear()

    def _launch(self, binary: Path) -> None:
        self._port, runtime_port = _free_ports(2)
        self._process = subprocess.Popen(
            [
                str(binary),
                "--runtime-interface-emulator-address",
                f"127.0.0.1:{self._port}",
                "--runtime-api-address",
                f"127.0.0.1:{runtime_port}",
                *self._command,
            ],
            cwd=self._cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for name in ("stdout", "stderr"):
            stream: IO[bytes] = getattr(self._process, name)
            # A full pipe would block the function in its print, and the emulator with it.
            drain = threading.Thread(
                target=self._drain, args=(name, stream), name=f"emulator-{name}", daemon=True
            )
            drain.start()
            self._drains.append(drain)

    def _drain(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                # The runtime separates the lines of one traceback with \r.
                text = raw.decode(errors="replace").rstrip("\n")
                with self._news:
                    self._lines.append(Line(time.monotonic(), name, text))
                    self._news.notify_all()

    def _is_listening(self) -> bool:
        deadline = time.monotonic() + 10
        while self.is_running and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                # It listens for callers first; the other port may still be taken, and end it.
                time.sleep(0.02)
                return self.is_running
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        # All at once, so that they differ.
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]


def _has_ended(pid: int, *, within: float) -> bool:
    """Wait for a child's end without reaping it."""
    deadline = time.monotonic() + within
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _session_members(session: int) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != session:
            with contextlib.suppress(OSError):
                stat = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
                # Behind the command's name, which may hold spaces and parentheses itself:
                # state, parent, process group, session.
                state, _, _, member_of = stat.rpartition(")")[2].split()[:4]
                if int(member_of) == session and state != "Z":
                    yield int(entry.name)


if __name__ == "__main__":
    print(fetch_emulator())
