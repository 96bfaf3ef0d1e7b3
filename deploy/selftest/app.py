"""The handler of the self-test's functions: it does what each event asks for.

It imports the package only if an event needs it, because some of the functions do not have it.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import platform
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

if os.environ.get("WATCHDOG_LAMBDA_SIGTERM") == "1":
    from watchdog_lambda import sandbox_shutdown_hook

    @sandbox_shutdown_hook
    def tell() -> None:
        """Write a line to the log that nothing else writes."""
        print("self-test: the sandbox's hook has run", flush=True)


calls = 0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WAIT = 2.0
"""Seconds to wait for something that happens at once, if it happens at all."""


def handler(event: dict[str, Any], context: Any) -> object:
    """Do what `event["do"]` names."""
    global calls  # noqa: PLW0603 - tells whether this is the same process
    calls += 1
    return _OPERATIONS[event["do"]](event, context)


def _look(event: dict[str, Any], _context: Any) -> object:
    time.sleep(event.get("hold", 0))
    return {"pid": os.getpid(), "calls": calls}


def _sleep(_event: dict[str, Any], _context: Any) -> object:
    time.sleep(3600)
    return "awake"


def _match(_event: dict[str, Any], _context: Any) -> object:
    """Match a regular expression that backtracks for years, with the GIL held."""
    return re.match(r"(a+)+$", "a" * 60 + "b")


def _deadlock(event: dict[str, Any], _context: Any) -> object:
    """Wait in C code that never checks for signals, for a lock that this thread itself holds."""
    library = ctypes.PyDLL(None) if event.get("gil") else ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)
    return "unlocked"


def _compute(_event: dict[str, Any], _context: Any) -> object:
    """Compute in C code that holds the GIL and never checks for signals."""
    return sum(range(10**15))


def _crash(_event: dict[str, Any], _context: Any) -> object:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "alive"


def _fill_memory(_event: dict[str, Any], _context: Any) -> object:
    kept = []
    while True:
        kept.append(bytearray(b"x") * (16 << 20))


# ---- what the sandbox permits --------------------------------------------------------------------


def _probe(_event: dict[str, Any], _context: Any) -> object:
    """Try what the watchdog and the supervisor need from the kernel."""
    tried: dict[str, Callable[[], object]] = {
        "timer on the monotonic clock": lambda: _ring(clock=1),
        "timer on the thread's processor time": lambda: _ring(clock=3),
        "prctl(PR_SET_PDEATHSIG)": lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        "prctl(PR_SET_CHILD_SUBREAPER)": lambda: _prctl(_PR_SET_CHILD_SUBREAPER, 1),
        "SIGSTOP and SIGCONT of a child": _stop_and_continue,
        "/proc/self/task/*/syscall": _read_syscall,
        "raising oom_score_adj": _raise_oom_score,
    }
    found: dict[str, str] = {}
    for name, attempt in tried.items():
        try:
            found[name] = str(attempt() or "ok")
        except OSError as error:
            found[name] = f"refused: {error}"
    return found


def _ring(clock: int) -> str | None:
    from watchdog_lambda._cpython.timers import ThreadTimer  # noqa: PLC0415 - not all have it

    number = signal.SIGRTMIN + 7
    rung: list[float] = []
    before = signal.signal(number, lambda _number, _frame: rung.append(time.monotonic()))
    timer = ThreadTimer(number, _thread_id(), clock)
    try:
        if not timer.available:
            return "refused: no such timer"
        start = time.monotonic()
        timer.set(0.01, 0.0)
        while not rung and time.monotonic() < start + _WAIT:
            pass  # stay busy: one of the clocks counts CPU time
        return None if rung else "refused: it did not ring"
    finally:
        timer.stop()
        signal.signal(number, before)


def _thread_id() -> int:
    import threading  # noqa: PLC0415 - like the package, import nothing at a cold start

    return threading.get_native_id()


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.prctl(option, 0, 0, 0, 0)


def _stop_and_continue() -> str | None:
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    try:
        os.kill(child, signal.SIGSTOP)
        until = time.monotonic() + _WAIT
        while os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOHANG) is None:
            if time.monotonic() > until:
                return "refused: the child did not stop"
            time.sleep(0.001)
        os.kill(child, signal.SIGCONT)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return None


def _read_syscall() -> None:
    Path(f"/proc/self/task/{_thread_id()}/syscall").read_text(encoding="ascii")


def _raise_oom_score() -> None:
    child = os.fork()
    if child == 0:  # in a child, because the score could not be lowered again
        try:
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if number := os.waitstatus_to_exitcode(status):
        raise OSError(number, os.strerror(number))


# ---- the Runtime API, by hand --------------------------------------------------------------------


def _answer_and_exit(_event: dict[str, Any], context: Any) -> object:
    """Post the answer, and exit without asking for the next event."""
    _post(context.aws_request_id, {"posted": True, "pid": os.getpid()})
    os._exit(1)


def _pass_on(_event: dict[str, Any], context: Any) -> object:
    """Post the answer, and have another process ask for the next events and answer them."""
    _post(context.aws_request_id, {"posted": True, "pid": os.getpid()})
    child = os.fork()
    if child == 0:
        is_last = False
        while not is_last:
            request_id, event = _next_event()
            is_last = event["do"] == "end"
            _post(request_id, {"pid": os.getpid(), "parent": os.getppid()})
        os._exit(0)
    os.waitpid(child, 0)
    os._exit(0)  # do not return: the runtime's client would answer an invocation that is over


def _next_event() -> tuple[str, dict[str, Any]]:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = connection.getresponse()
    event: dict[str, Any] = json.loads(answer.read())
    connection.close()
    return str(answer.headers["Lambda-Runtime-Aws-Request-Id"]), event


def _post(request_id: str, value: object) -> None:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    path = f"/2018-06-01/runtime/invocation/{request_id}/response"
    connection.request("POST", path, json.dumps(value))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != http.HTTPStatus.ACCEPTED:
        print(f"self-test: the answer was refused: {answer.status}", flush=True)


# ---- what the image is like ----------------------------------------------------------------------

_KEPT = re.compile(r"AWS_EXECUTION_ENV|LAMBDA_|LANG|LD_LIBRARY_PATH|PATH|PYTHON|TZ|_HANDLER")
_BOOTSTRAPS = ("/lambda-entrypoint.sh", "/var/runtime/bootstrap", "/var/runtime/bootstrap.py")


def _describe(_event: dict[str, Any], _context: Any) -> object:
    """Describe AWS's image for a stand-in, line by line, without the value of any secret."""
    lines = [f"python {platform.python_version()} at {sys.executable}"]
    lines += [f"libc {' '.join(platform.libc_ver())}, {platform.machine()}"]
    lines += [f"sys.path[{place}] {path}" for place, path in enumerate(sys.path)]
    environment = sorted(os.environ.items())
    lines += [f"environment {name}={value}" for name, value in environment if _KEPT.match(name)]
    for path in map(Path, _BOOTSTRAPS):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            lines += [f"{path}: {line}" for line in text.splitlines()]
        else:
            lines.append(f"{path}: not there")
    return lines


_OPERATIONS: dict[str, Callable[[dict[str, Any], Any], object]] = {
    "look": _look,
    "sleep": _sleep,
    "match": _match,
    "deadlock": _deadlock,
    "compute": _compute,
    "crash": _crash,
    "fill memory": _fill_memory,
    "probe": _probe,
    "answer and exit": _answer_and_exit,
    "pass on": _pass_on,
    "describe": _describe,
}
