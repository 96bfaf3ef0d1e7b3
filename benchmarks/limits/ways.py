"""The ways to end a handler that are compared; each runs in a process of its own."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from watchdog_lambda import TimeoutDetails, remaining_time, shutdown_hook, watch
from watchdog_lambda.testing import FakeContext

Run = Callable[[float], None]
"""Blocks; is told the instant, on the monotonic clock, at which it is to be interrupted."""
Tell = Callable[..., None]

GRACE_PERIOD = 0.3
REMAINING = 4 * GRACE_PERIOD  # the least that has all of it

DUE_AFTER = 0.2
"""Seconds until the other two strike: the call is under way by then."""


def watchdog(run: Run, tell: Tell) -> None:
    """This package, with its defaults but for the time there is, and one hook."""

    @shutdown_hook
    def hook(_details: TimeoutDetails) -> None:
        tell("hook")

    @watch(grace_period=GRACE_PERIOD)
    def handler(_event: object, _context: object) -> None:
        run(time.monotonic() + remaining_time() - GRACE_PERIOD)

    handler(None, FakeContext(REMAINING))


def alarm(run: Run, _tell: Tell) -> None:
    """SIGALRM, and a handler that raises: the recipe that is passed around."""

    def expired(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    signal.signal(signal.SIGALRM, expired)
    due = time.monotonic() + DUE_AFTER
    signal.setitimer(signal.ITIMER_REAL, DUE_AFTER)
    run(due)


def injection(run: Run, _tell: Tell) -> None:
    """``PyThreadState_SetAsyncExc`` from a thread, and nothing else, as stopit and others do it."""
    inject = ctypes.pythonapi.PyThreadState_SetAsyncExc
    target = ctypes.c_ulong(threading.get_ident())
    timer = threading.Timer(DUE_AFTER, inject, (target, ctypes.py_object(TimeoutError)))
    timer.daemon = True
    due = time.monotonic() + DUE_AFTER
    timer.start()
    run(due)


WAYS = {"watchdog": watchdog, "alarm": alarm, "injection": injection}
