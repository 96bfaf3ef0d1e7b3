"""The built-in host: the real runtime against our own Runtime API, which kills like Lambda.

It does the following as Lambda does. Each process has an init phase of at most 10 s, which does not
count as the invocation's time. At the hard deadline every process gets SIGKILL, and the next
invocation gets a new process. A process that exits is ``Runtime.ExitError``. As with AWS's
emulator, an invocation is over when the runtime asks for the next event: an answer that was posted
before a kill is lost.

It does not freeze the process between invocations, enforce the memory limit, or retry a failed
init.
"""

from __future__ import annotations

import json
import signal
import threading
import time
import uuid
from typing import TYPE_CHECKING

from .function import Invocation
from .host import Host
from .processes import end_all, send_group
from .runtime_api import Event, Posted, RuntimeApi

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from .function import Function
    from .host import OnStart
    from .log import Line

INIT_LIMIT = 10.0
"""Seconds that a process has for its init, as in Lambda."""

SHUTDOWN_LIMIT = 0.5
"""Seconds between SIGTERM and SIGKILL for a function with an extension, as in Lambda."""


class Builtin(Host):
    """One function under the built-in Runtime API."""

    def __init__(self, function: Function, on_line: Callable[[Line], None]) -> None:
        super().__init__(function, on_line)
        self._api = RuntimeApi(function.environ["AWS_LAMBDA_FUNCTION_NAME"])
        self._status: int | None = None  # the process's exit status; guarded by the API's news

    def invoke(self, event: bytes, on_start: OnStart) -> Invocation:
        """Invoke the function; see :meth:`.Host.invoke`."""
        init_seconds = None
        if self._process is None:
            before = time.monotonic()
            on_start("init", before)
            self._start()
            is_up = self._wait(lambda: self._api.pollers > 0, before + INIT_LIMIT)
            init_seconds = time.monotonic() - before
            if not is_up:
                return self._end_init(before, init_seconds)
        began = time.monotonic()
        on_start("invocation", began)
        deadline = began + self._function.timeout
        request = Event(str(uuid.uuid4()), event, time.time() + self._function.timeout)
        self._api.hand_over(request)
        # An answer counts once the runtime asks for the next event.
        is_over = self._wait(lambda: bool(request.posted and self._api.pollers), deadline)
        with self._api.news:
            posted, status = request.posted, self._status
        ended = time.monotonic()
        invocation = Invocation("", "response", ended - began, began, init_seconds)
        if posted is not None and (is_over or status is not None):
            _take(invocation, posted)
        elif status is None:
            invocation.kind = "killed"
            invocation.body = f"Task timed out after {self._function.timeout:.2f} seconds"
        else:
            invocation.kind, invocation.body = "error", _exit_error(request.request_id, status)
        if not is_over:
            self._end_process()
        return self._with_lines(invocation)

    def _end(self) -> None:
        if self._process is not None and self._api.has_extension:
            send_group(self._process.pid, signal.SIGTERM)
            self._wait(lambda: False, time.monotonic() + SHUTDOWN_LIMIT)
        self._end_process()
        end_all(self.mark)
        self._api.close()

    def _start(self) -> None:
        self._api.begin_process()
        self._status = None
        self._process = self._start_process(
            "the runtime",
            self._function.command,
            self._log.write_end,
            AWS_LAMBDA_RUNTIME_API=self._api.address,
        )
        threading.Thread(
            target=self._wait_for_end, args=(self._process,), name="process", daemon=True
        ).start()

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        with self._api.news:
            if process is self._process:
                self._status = status
            self._api.news.notify_all()

    def _wait(self, condition: Callable[[], bool], until: float) -> bool:
        """Return whether `condition` came true before the process exited and before `until`."""
        with self._api.news:
            while True:
                if self._status is not None:
                    return False
                if condition():
                    return True
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._api.news.wait(left)

    def _end_init(self, before: float, seconds: float) -> Invocation:
        """Report a failed init as an invocation."""
        with self._api.news:
            status, error = self._status, self._api.init_error
        invocation = Invocation("", "error", seconds, before, seconds, init_counts=True)
        if error is not None:
            invocation.body = error
        elif status is not None:
            invocation.body = _exit_error(str(uuid.uuid4()), status)
        else:
            invocation.kind = "killed"
            invocation.body = f"Init timed out after {INIT_LIMIT:.2f} seconds"
        self._end_process()
        return self._with_lines(invocation)

    def _end_process(self) -> None:
        """Kill the process and everything that it has started, and reap it."""
        process, self._process = self._process, None
        if process is None:
            return
        send_group(process.pid, signal.SIGKILL)
        end_all(self.mark)
        process.wait()

    def _with_lines(self, invocation: Invocation) -> Invocation:
        self._log.sync()
        invocation.lines = self._new_lines()
        return invocation


def _take(invocation: Invocation, posted: Posted) -> None:
    invocation.kind, invocation.body = posted.kind, posted.body
    invocation.seconds = posted.at - invocation.began


def _exit_error(request_id: str, status: int) -> str:
    """Return Lambda's answer for a process that has exited, in Lambda's words."""
    if status == 0:
        reason = "Runtime exited without providing a reason"
    elif status > 0:
        reason = f"Runtime exited with error: exit status {status}"
    else:
        name = signal.strsignal(-status) or f"signal {-status}"
        reason = f"Runtime exited with error: signal: {name.lower()}"
    message = f"RequestId: {request_id} Error: {reason}"
    return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message})
