"""AWS's Runtime Interface Emulator (RIE), run as a context manager.

    with Emulator([sys.executable, "-m", "awslambdaric", "app.handler"], cwd=here) as emulator:
        emulator.invoke({"warm": True})
        print(emulator.invoke({"name": "World"}).json())

Tests must take into account these properties of the emulator, which this module does not hide:

* The deadline starts when the HTTP request arrives, so the first invocation includes the handler's
  import. Send one to warm up first, with a timeout that the import fits into: after an init that
  timed out the next invocation is an empty 502.
* Every answer of a running process is HTTP 200, including errors and ``Task timed out``; if the
  process has ended it is 502. Only the body tells them apart.
* The deadline is in whole seconds, and the answer of a killed function comes some 100 ms late.
* Two concurrent invocations crash the emulator.
* The emulator removes its own flags (``--log-level``, ``--runtime-api-address``, ...) from the
  function's command line, at any position.
* There is no freeze between invocations, and no limit of 10 s for init.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tools.emulator import fetch_emulator
from watchdog_lambda.cli import emulator, log
from watchdog_lambda.cli.function import CannotRun, Function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = ["Emulator", "EmulatorError", "Line", "Response"]

# The emulator sets these for the function, or is configured by them. They are not inherited from
# the shell that runs the tests, so that a developer's settings cannot change the results.
_NOT_INHERITED: Final = re.compile(
    r"AWS_LAMBDA_|_?LAMBDA_|WATCHDOG_LAMBDA_|POWERTOOLS_|_HANDLER$|_X_AMZN_|AWS_EXECUTION_ENV$"
)


class EmulatorError(RuntimeError):
    """The emulator itself failed: it did not start, crashed, or gave no answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """The response that the function's caller received."""

    status: int
    body: str
    seconds: float
    """From the request's start to the last byte of the answer; not to the end of its log."""

    def json(self) -> object:
        """Return the decoded body; raises ``json.JSONDecodeError`` for ``Task timed out ...``."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the output of the emulator and the function."""

    at: float
    """``time.monotonic()`` when it was read here."""
    stream: str
    """``stdout`` has the function's two streams and the platform's lines, ``stderr`` the rest."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function(Function):
    """A function whose process is started by any command."""

    runtime: Sequence[str]

    @property
    def command(self) -> list[str]:
        return list(self.runtime)


class _Host(emulator.Emulator):
    """The host that the command uses; it passes on every line, including the platform's own."""

    def __init__(self, function: Function, take: Callable[[str, log.Line], None]) -> None:
        self._take = take  # set first, because the reading begins in super().__init__
        super().__init__(str(fetch_emulator()), function, lambda _line: None)

    def _add(self, line: log.Line) -> None:
        self._take("stdout", line)
        super()._add(line)

    def _add_own(self, line: log.Line) -> None:
        self._take("stderr", line)
        super()._add_own(line)

    def post(self, body: bytes) -> tuple[int, str]:
        return self._post(body)

    @property
    def pid(self) -> int | None:
        """Return the emulator's pid; None if it is not running."""
        return self._process.pid if self._process is not None and self._is_running() else None


class Emulator:
    """Runs one function in the emulator: starts it on entry, and ends it and its processes on exit.

    Args:
        command: The runtime and its handler, for example
            ``[sys.executable, "-m", "awslambdaric", "app.handler"]``.
        cwd: The function's working directory.
        environment: Variables in addition to this process's environment, from which those that
            concern Lambda are left out.
        timeout: The function's timeout, in whole seconds as in Lambda.
        memory_size: The function's memory in MB, which the function is told and is not enforced.
        function_name: The function's name.
        warm_up: An event with which the function is invoked at the start, so that no later
            invocation includes the init; None for no such invocation.

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
        self._warm_up = warm_up
        inherited = {n: v for n, v in os.environ.items() if not _NOT_INHERITED.match(n)}
        told = {
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_size),
            "AWS_LAMBDA_FUNCTION_NAME": function_name,
        }
        self._function = _Function(
            handler="",
            folder=Path(cwd or "."),
            timeout=timeout,
            memory=memory_size,
            environ={**inherited, **told, **(environment or {})},
            is_watched=False,
            runtime=command,
        )
        self._host: _Host | None = None
        self._lines: list[Line] = []  # guarded by _news; written by the host's readers
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
        """Start the emulator; it can be started again after ``close``, and the log is continued.

        Raises:
            EmulatorUnavailable: See ``fetch_emulator``.
            EmulatorError: It did not start, or the warm-up ended the function's process.
        """
        if self._host is not None:
            raise EmulatorError("the emulator is already running; close it first")
        self._host = _Host(self._function, self._take)
        try:
            self._host.__enter__()
            if self._warm_up is not None:
                self._warm()
        except CannotRun as error:
            self.close()
            raise EmulatorError(f"the emulator did not start\n{self.log_text}") from error
        except BaseException:
            self.close()
            raise

    def _warm(self) -> None:
        if self.invoke(self._warm_up).status != HTTPStatus.OK:
            raise EmulatorError(f"the function did not survive its start\n{self.log_text}")

    def invoke(self, event: object) -> Response:
        """Invoke the function and wait for its answer, and for the log to catch up with it.

        Args:
            event: Anything that ``json.dumps`` takes.

        Raises:
            EmulatorError: There is no answer in time, or the emulator has ended.
        """
        if not self._invoking.acquire(blocking=False):
            raise EmulatorError("two invocations at once crash the emulator; make them serial")
        try:
            since = len(self.lines)
            response = self._post(json.dumps(event))
            if response.status == HTTPStatus.OK:
                # The answer may arrive before the log. The runtime writes this line after it has
                # asked for the next event, into the same pipe as the function, so the function's
                # output precedes it.
                self.wait_for_line(lambda text: "REPORT RequestId: " in text, since=since)
            return response
        finally:
            self._invoking.release()

    def _post(self, body: str) -> Response:
        if self._host is None:
            raise EmulatorError("the emulator has not been started")
        start = time.monotonic()
        try:
            status, text = self._host.post(body.encode())
        except CannotRun as error:
            waited = time.monotonic() - start
            # The connection may be reset a moment before the process has ended.
            time.sleep(0.2)
            raise EmulatorError(
                f"no answer to {body} within {waited:.1f} s; the emulator "
                f"{'is still running' if self.is_running else 'has ended'}\n{self.log_text}"
            ) from error
        return Response(status, text, time.monotonic() - start)

    @property
    def pid(self) -> int | None:
        """The pid of the emulator's own process, not the function's; None if it is not running."""
        return None if self._host is None else self._host.pid

    @property
    def is_running(self) -> bool:
        """Whether the emulator's process is alive."""
        return self.pid is not None

    @property
    def lines(self) -> list[Line]:
        """A copy of the lines that the emulator and the function have written so far."""
        with self._news:
            return list(self._lines)

    @property
    def log_text(self) -> str:
        """The lines so far, as one text."""
        return "\n".join(line.text for line in self.lines)

    def wait_for_line(
        self, predicate: Callable[[str], bool], timeout: float = 5.0, *, since: int = 0
    ) -> Line:
        """Return the first line that the predicate holds for, waiting for it if need be.

        Use this for what the function's process writes between two invocations, or while it ends.

        Args:
            predicate: Called with each line's text.
            timeout: Seconds to wait for.
            since: The number of lines to leave out from the start: what ``len(lines)`` was before.

        Raises:
            EmulatorError: There is no such line in time.
        """

        def found() -> Line | None:
            return next((line for line in self._lines[since:] if predicate(line.text)), None)

        with self._news:
            line = self._news.wait_for(found, timeout)
        if line is None:
            raise EmulatorError(f"no such line within {timeout} s\n{self.log_text}")
        return line

    def close(self) -> None:
        """End the emulator and all that it started.

        It may be called repeatedly, or after a crash.
        """
        if self._host is not None:
            self._host.close()
            self._host = None

    def _take(self, stream: str, line: log.Line) -> None:
        with self._news:
            self._lines.append(Line(line.at, stream, line.text))
            self._news.notify_all()
