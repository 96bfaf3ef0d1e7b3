"""How long it takes from the instant that an interrupt is due until the handler sees it.

``python -m benchmarks.costs.interrupts WAY STATE THREADS GRACE SAMPLES`` has a handler interrupted
again and again in one way, and tells how late each time.
"""

from __future__ import annotations

import itertools
import re
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from benchmarks.child import Channel, end_with_parent
from benchmarks.children import Broken, Child
from benchmarks.quota import SHARE, quota
from watchdog_lambda import remaining_time, watch
from watchdog_lambda.testing import FakeContext

from .report import SKIPPED, Part, Ratio, Table, digits, quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from benchmarks.quota import Quota

    from .report import Found, Tell

    Block = Callable[[], object]

_ALARM_AFTER: Final = 0.1
"""Seconds until the recipe's alarm rings; ours needs four grace periods, or has a shorter one."""

WAYS: Final = {"watchdog": "watchdog-lambda", "alarm": "SIGALRM recipe"}
STATES: Final = {
    "busy": "busy: computes in Python",
    "blocked": "blocked: waits for a lock",
    "gil held": "GIL held by C code that checks for signals",
}
_WITHIN: Final = 60.0  # seconds; a sample that takes longer ends the row


class _Setting(NamedTuple):
    """How many busy threads there are, and how often it is measured."""

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
_QUICK: Final = (_Setting("0", "no other thread", 0, 0.05, 15),)


def _measure(*, quick: bool, tell: Tell) -> Found:
    skipped: list[str] = []
    found: Found = {"rows": {}, SKIPPED: skipped}
    states = ("busy", "blocked") if quick else tuple(STATES)
    ways = ("watchdog",) if quick else tuple(WAYS)
    with quota() as held:
        found["quota"] = held.means
        for setting in _QUICK if quick else _SETTINGS:
            for state, way in itertools.product(states, ways):
                tell(f"{state}, {setting.title}, {WAYS[way]}: {setting.samples} times")
                late: list[float] = []
                try:
                    late.extend(_late(setting, state, way, held))
                except Broken as error:
                    skipped.append(str(error))
                if late:
                    row = found["rows"].setdefault(state, {}).setdefault(setting.name, {})
                    row[way] = late
    return found


def _late(setting: _Setting, state: str, way: str, held: Quota) -> Iterator[float]:
    """Milliseconds, one by one: those before a failure count."""
    arguments = (way, state, setting.threads, setting.grace, setting.samples)
    launch = held.launch if setting.under_quota else ()
    with (
        Child("costs.interrupts", *arguments, launch=launch) as child,
        held.held(child.pid, wanted=setting.under_quota),
    ):
        for told in child.hear_all(setting.samples, _WITHIN):
            yield told["ms"]


def _tables(found: Found) -> list[Table]:
    titles = {setting.name: setting.title for setting in _SETTINGS}
    rows = []
    for state, by_setting in found["rows"].items():
        for setting, by_way in by_setting.items():
            figures: list[str] = []
            for way in WAYS:
                late = by_way.get(way)
                figures += figures_of(late) if late else ["-", "-", "-"]
            samples = max(len(late) for late in by_way.values())
            rows.append((STATES[state].partition(":")[0], titles[setting], str(samples), *figures))
    head = ("handler", "beside", "times", "p50", "p99", "max", "recipe: p50", "p99", "max")
    title = f"From due until the handler saw it, ms (quota: {found['quota']})"
    return [Table(title, head, rows)]


def figures_of(late: list[float]) -> list[str]:
    """Median, 99th percentile and the worst."""
    return [digits(quantile(late, share)) for share in (0.5, 0.99, 1)]


def _ratios(found: Found) -> list[Ratio]:
    def median(state: str) -> float | None:
        late: list[float] = found["rows"].get(state, {}).get("0", {}).get("watchdog", [])
        return quantile(late, 0.5) if late else None

    ratios = []
    if (busy := median("busy")) is not None:
        ratios.append(
            Ratio(
                "interrupts: a busy handler, in turns of the GIL",
                busy / (sys.getswitchinterval() * 1000),
                2.5,
                "a turn is 5 ms on every machine, but a neighbour adds the scheduler's turns",
                floor=4,
            )
        )
    if (blocked := median("blocked")) is not None:
        ratios.append(
            Ratio(
                "interrupts: a blocked handler, ms",
                blocked,
                5,
                "it is the wake-up of a thread, which depends on the scheduler",
                floor=5,
            )
        )
    return ratios


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


def busy() -> None:
    count = 0
    while True:
        count += 1


def blocked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def gil_held() -> None:
    """Match a catastrophic regular expression: C code that keeps the GIL and looks at signals."""
    re.match(r"(a+)+$", "a" * 60 + "b")


_BLOCKS: Final[dict[str, Block]] = {"busy": busy, "blocked": blocked, "gil held": gil_held}


def watchdog(block: Block, grace: float) -> float:
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


_INTERRUPTED: Final = {"watchdog": watchdog, "alarm": alarm}


def main(way: str, state: str, threads: str, grace: str, samples: str) -> None:
    """Tell each; the busy threads run during all of them."""
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
    begin.set()  # only when all are there: a start would take as long as all others' turns
    for _ in range(int(samples)):
        channel.tell(ms=_INTERRUPTED[way](_BLOCKS[state], float(grace)) * 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
