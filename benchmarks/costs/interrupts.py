"""How long it takes from the instant that an interrupt is due until the handler sees it.

``python -m benchmarks.child costs.interrupts WAY STATE THREADS GRACE SAMPLES`` interrupts a handler
that many times, and prints the delay of each interrupt in milliseconds.
"""

from __future__ import annotations

import itertools
import math
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from benchmarks.child import Channel
from benchmarks.children import Broken, Child
from benchmarks.quota import NO_QUOTA, SHARE, quota
from watchdog_lambda import remaining_time, watch
from watchdog_lambda.testing import FakeContext

from .report import SKIPPED, Found, Part, Ratio, Table, Tell, digits, quantile

_ALARM_AFTER: Final = 0.1
"""Seconds until the recipe's alarm; the watchdog's interrupt comes after three grace periods."""

WAYS: Final = {"watchdog": "watchdog-lambda", "alarm": "SIGALRM recipe"}
STATES: Final = {
    "busy": "busy",
    "blocked": "blocked",
    "gil held": "GIL held by C code that checks for signals",
}


class _Setting(NamedTuple):
    """What runs beside the handler, and how often each delay is measured."""

    name: str
    title: str
    threads: int
    grace: float
    samples: int
    under_quota: bool = False


_SETTINGS: Final = (
    _Setting("0", "no other thread", 0, 0.05, 60),
    _Setting("3", "3 busy threads", 3, 0.15, 20),
    _Setting("50", "50 busy threads", 50, 1.0, 5),
    _Setting("quota", f"{SHARE:.2%} of a core", 0, 0.2, 15, under_quota=True),
)


def _measure(*, quick: bool, tell: Tell) -> Found:
    skipped: list[str] = []
    found: Found = {"rows": {}, "quota": "none", SKIPPED: skipped}
    settings = (_SETTINGS[0]._replace(samples=15),) if quick else _SETTINGS
    states = ("busy", "blocked") if quick else tuple(STATES)
    ways = ("watchdog",) if quick else tuple(WAYS)
    for setting in settings:
        with quota() as held:
            if held is not None:
                found["quota"] = held.means
            elif setting.under_quota:
                skipped.append(NO_QUOTA)
                continue
            launch = held.launch if held is not None and setting.under_quota else ()
            for state, way in itertools.product(states, ways):
                tell(f"{state}, {setting.title}, {WAYS[way]}: {setting.samples} times")
                by_setting = found["rows"].setdefault(state, {})
                late = by_setting.setdefault(setting.name, {}).setdefault(way, [])
                try:
                    _take(late, setting, (way, state), launch)
                except Broken as error:
                    skipped.append(str(error))
    return found


def _take(late: list[float], setting: _Setting, what: Sequence[str], launch: Sequence[str]) -> None:
    """Add the delays one by one: those before a failure count."""
    arguments = (*what, setting.threads, setting.grace, setting.samples)
    with Child("costs.interrupts", *arguments, launch=launch) as child:
        late.extend(told["ms"] for told in child.hear_all(setting.samples))


def _tables(found: Found) -> list[Table]:
    titles = {setting.name: setting.title for setting in _SETTINGS}
    rows = [
        (
            STATES[state],
            titles[setting],
            str(max(map(len, by_way.values()))),
            *(figure for way in WAYS for figure in figures_of(by_way.get(way))),
        )
        for state, by_setting in found["rows"].items()
        for setting, by_way in by_setting.items()
    ]
    head = ("handler", "beside", "times", "p50", "p99", "max", "recipe: p50", "p99", "max")
    title = f"From due until the handler saw it, ms (quota: {found['quota']})"
    return [Table(title, head, rows)]


def figures_of(late: list[float] | None) -> list[str]:
    """Median, 99th percentile and the worst."""
    return [digits(quantile(late, share)) if late else "-" for share in (0.5, 0.99, 1)]


def _ratios(found: Found) -> list[Ratio]:
    busy, blocked = (
        # Where nothing was measured, --check is to fail.
        quantile(found["rows"][state]["0"]["watchdog"] or [math.inf], 0.5)
        for state in ("busy", "blocked")
    )
    return [
        Ratio(
            "interrupts: a busy handler, in turns of the GIL",
            busy / (sys.getswitchinterval() * 1000),
            2.5,
            "a turn is 5 ms on every machine, but a neighbour adds the scheduler's turns",
            floor=4,
        ),
        Ratio(
            "interrupts: a blocked handler, ms",
            blocked,
            5,
            "it is the wake-up of a thread, which depends on the scheduler",
            floor=5,
        ),
    ]


PART: Final = Part(
    name="interrupts",
    title="From deadline to interrupt",
    about="A handler is interrupted again and again in one process, and notes the monotonic clock "
    "when it sees the exception. The handler computes in Python, waits for a lock, or runs a "
    "regular expression that keeps the GIL: alone, next to threads that compute in Python all the "
    "time, and with a small share of a core. The recipe is `setitimer` with a signal handler that "
    "raises, in the same situations. With few repetitions the p99 is the worst case.",
    measure=_measure,
    tables=_tables,
    ratios=_ratios,
)


# ---- the measured process ------------------------------------------------------------------------


def _busy() -> None:
    count = 0
    while True:
        count += 1


def _blocked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _gil_held() -> None:
    """Match a catastrophic regular expression in C code that keeps the GIL."""
    re.match(r"(a+)+$", "a" * 60 + "b")


_BLOCKS: Final = {"busy": _busy, "blocked": _blocked, "gil held": _gil_held}


def watchdog(block: Callable[[], None], grace: float) -> float:
    """The delay of one interrupt in seconds."""
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


def _alarm(block: Callable[[], None], _grace: float) -> float:
    def expired(_signum: int, _frame: object) -> NoReturn:
        raise TimeoutError

    signal.signal(signal.SIGALRM, expired)
    due = time.monotonic() + _ALARM_AFTER
    signal.setitimer(signal.ITIMER_REAL, _ALARM_AFTER)
    try:
        block()
    except TimeoutError:
        return time.monotonic() - due
    raise AssertionError("the handler ended before its timeout")


def main(way: str, state: str, threads: str, grace: str, samples: str) -> None:
    """Print each delay; the busy threads run during all of them."""
    channel = Channel()
    begin = threading.Event()

    def compete() -> None:
        begin.wait()
        _busy()

    if way == "watchdog":
        # The first invocation starts the watchdog's thread, which is not part of any delay.
        watch(lambda _event, _context: None)(None, FakeContext(60.0))
    for _ in range(int(threads)):
        threading.Thread(target=compete, daemon=True).start()
    begin.set()  # after the last start: each would wait for the GIL behind the busy threads
    interrupt = watchdog if way == "watchdog" else _alarm
    for _ in range(int(samples)):
        channel.tell(ms=interrupt(_BLOCKS[state], float(grace)) * 1000)
