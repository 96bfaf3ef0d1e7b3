"""A handler that uses SIGALRM, the real-time timer and SIGTERM itself, as some tracers do.

The code does not mention the watchdog, which leaves all three as they are.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

BEAT_SECONDS = 0.05
CLEANUP_SECONDS = 0.2

beats = 0
requests_to_stop = 0


def beat(signum: int, frame: FrameType | None) -> None:
    global beats  # noqa: PLW0603 - a signal handler can leave it nowhere else
    beats += 1


def on_term(signum: int, frame: FrameType | None) -> None:
    global requests_to_stop  # noqa: PLW0603 - the same
    requests_to_stop += 1


signal.signal(signal.SIGALRM, beat)
signal.signal(signal.SIGTERM, on_term)
signal.setitimer(signal.ITIMER_REAL, BEAT_SECONDS, BEAT_SECONDS)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Work for as many seconds as the event says, and count the heartbeats in that time."""
    at_start = beats
    status = 200
    beats_in_cleanup = 0
    try:
        time.sleep(event.get("work", 0.2))
    except TimeoutError:
        status = 504
        at_interrupt = beats
        time.sleep(CLEANUP_SECONDS)
        beats_in_cleanup = beats - at_interrupt
    return {
        "statusCode": status,
        "pid": os.getpid(),
        "beats": beats - at_start,
        "beats_in_cleanup": beats_in_cleanup,
        "requests_to_stop": requests_to_stop,
        "signals_are_own": (signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGTERM))
        == (beat, on_term),
        "timer": signal.getitimer(signal.ITIMER_REAL)[1],
    }
