"""A handler that hangs or dies in every way, in the state that the event names."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchdog_lambda import watch

if TYPE_CHECKING:
    from collections.abc import Callable

calls = 0

HOLDING = ctypes.PyDLL(None)  # calls through PyDLL keep the GIL
LIBC = ctypes.CDLL(None)


def crash() -> None:
    """Read from address 0."""
    ctypes.string_at(0)


def crash_elsewhere() -> None:
    """Read from address 0 on another thread, while the main one waits."""
    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()


def grow() -> None:
    """Allocate memory until there is none."""
    blocks: list[bytes] = []
    while True:
        blocks.append(b"x" * (4 << 20))


def deadlock(libc: Any) -> None:
    """Wait in C for a lock that this thread itself holds."""
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def swallow() -> None:
    """Catch whatever is raised here, again and again."""
    while True:
        try:
            while True:
                time.sleep(60)
        except BaseException:  # noqa: S110
            pass


def exit_into(function: Any) -> None:
    """End Python, with a C function that is called at the exit."""
    LIBC["__cxa_atexit"](ctypes.cast(function, ctypes.c_void_p), None, None)
    sys.exit(3)


def go(do: str) -> None:
    """Hang or die while the runtime waits for an event; from then on no other thread runs."""
    while not waits_for_an_event():
        time.sleep(0.01)
    sys.setswitchinterval(60)
    line = f"going to {do}\n".encode()
    HOLDING.write(1, line, len(line))
    WAYS[do]()


def waits_for_an_event() -> bool:
    """Return whether the answer has been sent, and the next event requested."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code.co_name != "wait_next_invocation":
        frame = frame.f_back
    return frame is not None


WAYS: dict[str, Callable[[], object]] = {
    "sum": lambda: sum(range(10**12)),
    # Each comparison takes at least a millisecond on any machine.
    "sorted": lambda: sorted([[0] * 1_000_000, [0] * 1_000_000] * 10_000),
    "json": lambda: json.loads("[" + "1," * 120_000_000 + "1]"),
    "deadlock with the GIL": lambda: deadlock(HOLDING),
    "deadlock": lambda: deadlock(LIBC),
    "swallow": swallow,
    "segfault": crash,
    "segfault elsewhere": crash_elsewhere,
    "abort": os.abort,
    "exit": lambda: os._exit(7),
    "sys.exit": lambda: sys.exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "grow": grow,
    "hang at exit": lambda: exit_into(LIBC.pause),
    "exit at exit": lambda: exit_into(LIBC.abort),
}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Do what `event` says, after the seconds that it says."""
    del context
    global calls  # noqa: PLW0603 - shows whether this is the same process's same memory
    calls += 1
    time.sleep(event.get("after", 0.0))
    if event.get("child"):
        # The child has its own output; otherwise the emulator would wait for it to close ours.
        child = subprocess.Popen(
            ["sh", "-c", "sleep 60 & sleep 60"],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        print(f"child {child.pid}", flush=True)
    if event.get("idle"):
        threading.Timer(0.2, go, (event["do"],)).start()
    elif event["do"] != "look":
        WAYS[event["do"]]()
    return {
        "pid": os.getpid(),
        "supervisor": os.getppid(),
        "calls": calls,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "group": os.getpgrp(),
        "initialization": os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE"),
    }


def answering(event: dict[str, Any], context: object) -> object:
    """Die while the answer is being sent."""
    if event["do"] == "look":
        return handler(event, context)
    from awslambdaric import lambda_runtime_client  # noqa: PLC0415

    def die(*_arguments: object) -> None:
        WAYS[event["do"]]()

    lambda_runtime_client.runtime_client = type("Client", (), {"post_invocation_result": die})
    return {}


constant = watch(fallback={"constant": 1})(handler)
called = watch(fallback=lambda details: {"asked": details.function_name})(handler)

if os.environ.get("DIE_IN_INIT"):
    WAYS[os.environ["DIE_IN_INIT"]]()
