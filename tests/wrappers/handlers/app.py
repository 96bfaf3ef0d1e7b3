"""A handler without a wrapper, because environment variables alone choose the wrappers."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

calls = 0


def state() -> dict[str, Any]:
    """Return what the wrappers have done to the process's signals and its interval timer."""
    return {
        "alarm": name(signal.getsignal(signal.SIGALRM)),
        "timer": round(signal.getitimer(signal.ITIMER_REAL)[0], 1),
        "term": name(signal.getsignal(signal.SIGTERM)),
    }


def name(action: Any) -> str:
    return getattr(action, "__qualname__", None) or repr(action)


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Answer at once, or do what the event says."""
    global calls  # noqa: PLW0603
    calls += 1
    try:
        if event.get("do") == "sleep":
            time.sleep(60)
        if event.get("do") == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if event.get("do") == "hold":
            sum(range(10**12))
        while event.get("do") == "swallow":
            swallow()
        return {"call": calls, "pid": os.getpid(), **state()}
    finally:
        print("handler: finally", state(), flush=True)


def swallow() -> None:
    """Swallow errors, as retries do."""
    try:
        time.sleep(60)
    except Exception as error:
        print("handler: swallowed", type(error).__name__, flush=True)
