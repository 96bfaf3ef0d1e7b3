"""Have a handler interrupted again and again, in one way, and tell how late each time.

    python -m benchmarks.costs.interrupts_child WAY STATE THREADS GRACE SAMPLES

One line for each: the milliseconds from the instant it was due until the handler saw it.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

from benchmarks.child import Channel, end_with_parent
from watchdog_lambda import remaining_time, watch
from watchdog_lambda.testing import FakeContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Block = Callable[[], object]

_ALARM_AFTER: Final = 0.1
"""Seconds until the recipe's alarm rings; ours needs four grace periods, or has a shorter one."""


def busy() -> None:
    """Compute, in Python."""
    count = 0
    while True:
        count += 1


def blocked() -> None:
    """Wait for a lock that nobody gives back."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def gil_held() -> None:
    """Match a catastrophic regular expression: C code that keeps the GIL and looks at signals."""
    re.match(r"(a+)+$", "a" * 60 + "b")


STATES: Final[dict[str, Block]] = {"busy": busy, "blocked": blocked, "gil held": gil_held}


def watchdog(block: Block, grace: float) -> float:
    """One interrupt of ours."""
    late: list[float] = []

    @watch(grace_period=grace)
    def handler(_event: object, _context: object) -> None:
        due = time.monotonic() + remaining_time() - grace
        try:
            block()
        except TimeoutError:
            late.append(time.monotonic() - due)

    handler(None, FakeContext(4 * grace))
    return late[0]


def alarm(block: Block, _grace: float) -> float:
    """One of the recipe's."""

    def expired(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    signal.signal(signal.SIGALRM, expired)
    due = time.monotonic() + _ALARM_AFTER
    signal.setitimer(signal.ITIMER_REAL, _ALARM_AFTER)
    try:
        block()
    except TimeoutError:
        return time.monotonic() - due
    raise AssertionError("it ended by itself")


WAYS: Final = {"watchdog": watchdog, "alarm": alarm}


def main(way: str, state: str, threads: str, grace: str, samples: str) -> None:
    """Tell each; the busy threads run all the while."""
    end_with_parent()
    channel = Channel()
    begin = threading.Event()

    def compete() -> None:
        begin.wait()
        busy()

    if way == "watchdog":
        # Its thread is started by the first invocation, which is no matter of a deadline's.
        watch(lambda _event, _context: None)(None, FakeContext(60.0))
    for _ in range(int(threads)):
        threading.Thread(target=compete, daemon=True).start()
    begin.set()  # none before all are there, for a start would take as long as all others' turns
    for _ in range(int(samples)):
        channel.tell(ms=WAYS[way](STATES[state], float(grace)) * 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
