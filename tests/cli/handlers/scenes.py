"""Handlers that do what their event says, for the ``watchdog-lambda`` command to run."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from watchdog_lambda import sandbox_shutdown_hook, shutdown_hook

print("imported")
if os.environ.get("FAIL_AT_IMPORT"):
    raise ValueError("no such table")
if os.environ.get("HANG_AT_IMPORT"):
    time.sleep(60)
if os.environ.get("EXIT_AT_IMPORT"):
    os._exit(7)

if os.environ.get("HOOK"):

    @shutdown_hook
    def flush(_details: object) -> None:
        """A hook that takes some time."""
        time.sleep(0.05)
        print("flushed")


if os.environ.get("WATCHDOG_LAMBDA_SIGTERM"):

    @sandbox_shutdown_hook
    def say_goodbye() -> None:
        """A hook for the sandbox's end."""
        os.write(1, b"goodbye\n")


calls = 0


def handler(event: dict[str, Any], context: Any) -> object:
    """Do what the event says."""
    global calls  # noqa: PLW0603 - tells a process that has been kept
    calls += 1
    print(f"call {calls}")
    return globals()[event["do"]](event, context)


def ok(_event: object, context: Any) -> object:
    return {
        "calls": calls,
        "memory": context.memory_limit_in_mb,
        "variable": os.environ.get("VARIABLE"),
        "text": "grün",
    }


def fail(_event: object, _context: object) -> None:
    raise KeyError("own")


def unmarshalled(_event: object, _context: object) -> object:
    return {1, 2}


def lookalike(_event: object, _context: object) -> object:
    """Return an answer whose keys alone would make it look like an error."""
    return {"errorType": "Mine", "errorMessage": "not an error"}


def sleep(_event: object, _context: object) -> None:
    try:
        time.sleep(60)
    finally:
        print("cleanup done")


def answer(_event: object, _context: object) -> object:
    try:
        time.sleep(60)
    except TimeoutError:
        time.sleep(0.1)
        return {"statusCode": 504}
    return None


def swallow(_event: object, _context: object) -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


def stuck(_event: object, _context: object) -> None:
    """Hang in C code without the GIL that no signal ends, and that uses no processor time."""
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(256)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def stuck_once(event: dict[str, Any], context: object) -> object:
    marker = Path(event["marker"])
    if marker.exists():
        return {"calls": calls}
    marker.touch()
    stuck(event, context)
    return None


def leave(_event: object, _context: object) -> None:
    sys.exit(3)


def leave_quietly(_event: object, _context: object) -> None:
    os._exit(0)


def crash(_event: object, _context: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def speak(_event: object, _context: object) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.write(1, b"without an end")
    os.write(1, b"\na\tb\rc\n\n")
    os.write(2, b"not \xff text\n")
    os.write(1, b"\x1b[2Jcleared\n")


def spawn(event: dict[str, Any], _context: object) -> None:
    """Start a child in a session of its own, which survives its parent unless it is ended."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    if "file" in event:
        Path(event["file"]).write_text(str(child.pid), encoding="utf-8")
    print(f"child {child.pid}")
    print(f"parent {os.getpid()}")
    time.sleep(60)


def look_for_child(event: dict[str, Any], _context: object) -> object:
    """Return whether that child still runs."""
    pid = Path(event["file"]).read_text(encoding="utf-8")
    try:
        stat = Path("/proc", pid, "stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
