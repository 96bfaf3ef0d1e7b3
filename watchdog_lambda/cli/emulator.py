"""AWS's Runtime Interface Emulator as the host of the function.

The emulator's clock starts when the request arrives, so the invocation's time includes the start
of the function's process. Its timeout is in whole seconds. It answers errors and ``Task timed out``
with HTTP 200 too, and with 502 for a process that has exited, so the body tells the outcome.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from .function import CannotRun, Invocation
from .host import Host
from .log import Log
from .processes import end_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from .function import Function
    from .host import OnStart
    from .log import Line

_INVOCATIONS: Final = "/2015-03-31/functions/function/invocations"
_UP_WITHIN: Final = 10.0  # seconds
_SHUTDOWN_WITHIN: Final = 3.0  # seconds; the emulator gives a function with an extension 600 ms
_BEYOND: Final = 20.0  # seconds after the hard deadline at which we stop waiting for an answer

_PLATFORM: Final = re.compile(
    r"(START|END) RequestId: [0-9a-f-]{36}( Version: \S+)?$|"
    r"(INIT_)?REPORT RequestId: [0-9a-f-]{36}\t"
)
_REPORT: Final = re.compile(r"REPORT RequestId: [0-9a-f-]{36}\t")
_INIT: Final = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)\)")
_EXITED: Final = re.compile(r"Process runtime-\d+ exited: (.*)$")
_ERROR_KEYS: Final = {"errorType", "errorMessage", "requestId", "stackTrace"}
"""The keys that awslambdaric posts for an error. A handler may return the first two itself; we
assume that none returns all four."""


class Emulator(Host):
    """One function under the emulator at `path`."""

    def __init__(self, path: str, function: Function, on_line: Callable[[Line], None]) -> None:
        self._path = path
        self._news = threading.Condition()
        self._reports = 0  # guarded by _news
        self._said: list[str] = []  # the emulator's own output; guarded by _news
        super().__init__(function, on_line)
        self._own_log = Log("emulator", self._add_own)
        self._port = 0

    def __enter__(self) -> Self:
        try:
            # Another process may take the chosen ports before the emulator does: try again then.
            for _ in range(5):
                self._launch()
                if self._is_listening():
                    return self
                self._end()
                if not any("address already in use" in line for line in self._said):
                    break
        except BaseException:  # Ctrl-C included: nothing else would end the emulator
            self.close()
            raise
        self.close()
        said = "\n".join(self._said[-5:])
        raise CannotRun(f"{self._path} did not start; use another with --emulator PATH\n{said}")

    def invoke(self, event: bytes, on_start: OnStart) -> Invocation:
        """Invoke the function; see :meth:`.Host.invoke`."""
        with self._news:
            said, reports = len(self._said), self._reports
        began = time.monotonic()
        on_start("invocation", began)
        status, body = self._post(event)
        seconds = time.monotonic() - began
        if status == HTTPStatus.OK:
            # The answer arrives before the log. The report line follows the function's own lines.
            with self._news:
                self._news.wait_for(lambda: self._reports > reports, 5.0)
        self._log.sync()
        self._own_log.sync()
        with self._news:
            own = self._said[said:]
        invocation = Invocation(body, "response", seconds, began, init_counts=True)
        # Take the first: after a failed init the emulator reports a second one, of 0 ms.
        found = next((match for line in own if (match := _INIT.search(line))), None)
        if found is not None:
            invocation.init_seconds = float(found[1]) / 1000
        invocation.lines = self._new_lines()
        self._judge(invocation, status, own)
        return invocation

    def close(self) -> list[Line]:
        """End everything; see :meth:`.Host.close`."""
        lines = super().close()
        self._own_log.close()
        return lines

    def _judge(self, invocation: Invocation, status: int, own: list[str]) -> None:
        if not invocation.body:
            # The process exited during init and posted nothing.
            exited = next((match for line in own if (match := _EXITED.search(line))), None)
            how = exited[1] if exited is not None else "exit status unknown"
            reason = (
                "without providing a reason" if how == "exit status 0" else f"with error: {how}"
            )
            message = f"Error: Runtime exited {reason}"
            invocation.body = json.dumps(
                {"errorType": "Runtime.ExitError", "errorMessage": message}
            )
        answer: Any = invocation.answer
        if isinstance(answer, str) and invocation.body.startswith("Task timed out after "):
            invocation.kind = "killed"
        elif status != HTTPStatus.OK or (isinstance(answer, dict) and answer.keys() >= _ERROR_KEYS):
            invocation.kind = "error"

    def _post(self, event: bytes) -> tuple[int, str]:
        timeout = self._function.timeout + _BEYOND
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        try:
            connection.request("POST", _INVOCATIONS, event)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            said = "\n".join(self._said[-5:])
            raise CannotRun(f"{self._path} gave no answer ({error!r})\n{said}") from error
        finally:
            connection.close()

    def _add(self, line: Line) -> None:
        with self._news:
            if _PLATFORM.match(line.text):
                self._reports += bool(_REPORT.match(line.text))
                self._news.notify_all()
                return
        super()._add(line)

    def _add_own(self, line: Line) -> None:
        with self._news:
            self._said.append(line.text)

    def _launch(self) -> None:
        self._port, runtime_port = _free_ports(2)
        command = [self._path, "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
        command += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
        self._process = self._start_process(
            self._path,
            [*command, *self._function.command],
            self._own_log.write_end,
            # This variable is the emulator's; Lambda itself has none.
            AWS_LAMBDA_FUNCTION_TIMEOUT=str(int(self._function.timeout)),
        )

    def _is_listening(self) -> bool:
        until = time.monotonic() + _UP_WITHIN
        while self._is_running() and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                # The emulator opens this port first. It exits if its second port is taken.
                time.sleep(0.02)
                return self._is_running()
        return False

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SHUTDOWN_WITHIN)
        end_all(self.mark)
        if process is not None:
            process.wait()
        self._process = None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        # Hold all of them at once, so that they differ.
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]
