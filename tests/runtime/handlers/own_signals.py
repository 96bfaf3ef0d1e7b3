"""A handler that uses the process's real-time timer and SIGTERM for itself."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

INTERVAL = 0.05
ticks = 0
terms = 0


def tick(signum: int, frame: FrameType | None) -> None:
    """Count the timer's signals."""
    global ticks  # noqa: PLW0603 - a signal handler has nowhere else to leave it
    ticks += 1


def term(signum: int, frame: FrameType | None) -> None:
    """Count the SIGTERM signals."""
    global terms  # noqa: PLW0603 - the same
    terms += 1


signal.signal(signal.SIGALRM, tick)
signal.signal(signal.SIGTERM, term)
signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Watch the timer tick for a while, or until the interrupt and then in the cleanup."""
    before = ticks
    try:
        time.sleep(60 if event["do"] == "sleep" else 0.3)
    except TimeoutError:
        during = ticks - before
        before = ticks
        time.sleep(0.2)
        return {"during": during, "in_cleanup": ticks - before}
    os.kill(os.getpid(), signal.SIGTERM)
    return {
        "pid": os.getpid(),
        "ticks": ticks - before,
        "terms": terms,
        "interval": signal.getitimer(signal.ITIMER_REAL)[1],
        "own_handlers": (signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGTERM))
        == (tick, term),
    }
