"""A handler that cannot be interrupted, in a process with processes and files of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

calls = 0

MARK = "_WATCHDOG_LAMBDA_INVOKE"
"""The harness's variable, which all processes that it starts have."""

LIBC = ctypes.CDLL(None)


def be_blind() -> None:
    """Wait in C code that no signal wakes, without the GIL, for a lock that this thread holds."""
    mutex = ctypes.create_string_buffer(64)
    LIBC.pthread_mutex_lock(mutex)
    LIBC.pthread_mutex_lock(mutex)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer, or get stuck in C code after doing what `event` says."""
    global calls  # noqa: PLW0603 - shows whether this is the same process's same memory
    calls += 1
    if event["do"] == "look":
        return look()
    if event.get("child"):
        # The child has its own output; otherwise the emulator would wait for it to close ours.
        child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
        print(f"child {child.pid}")
    if event.get("timer"):
        signal.setitimer(signal.ITIMER_REAL, event["timer"])
    if event.get("away"):
        os.chdir("/")
        os.environ["LEFT_BEHIND"] = "1"
        os.environ["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:1"  # an address that is not Lambda's
        os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    if event["do"] == "hold the GIL":
        time.sleep(event.get("first", 0.0))
        sum(range(10**12))  # C code that does not check for signals
    be_blind()
    return {}


def look() -> dict[str, Any]:
    """Return what a test needs to know about this process, such as its pid and its parent's."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "calls": calls,
        "cwd": str(Path.cwd()),
        "left_behind": "LEFT_BEHIND" in os.environ,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timer": signal.getitimer(signal.ITIMER_REAL)[0],
        "ours": [name for name in os.environ if name.startswith("_WATCHDOG") and name != MARK],
    }
