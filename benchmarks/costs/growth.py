"""How the costs grow with what a function has: hooks, frames, threads, invocations, other calls.

``python -m benchmarks.child costs.growth SERIES AMOUNT TIMEOUTS`` is one point of one series: what
a call costs, and how late an interrupt is, with so much of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from benchmarks.child import Channel
from benchmarks.children import Broken, Child
from tools import resident
from watchdog_lambda import scoped_hook, watch

from .calls import Above, batch
from .interrupts import watchdog
from .registry import context, noop
from .report import SKIPPED, Found, Goal, Part, Ratio, Table, Tell, digits, quantile

_TIMEOUTS: Final = 3
_GRACE: Final = 0.2
_SOON_THERE: Final = ("hooks", "depth")
"""Series of states that are entered and left in no time, so in turns for each single batch."""
_BLOCK: Final = 250
_BLOCKS: Final = 20
"""So many times so many calls are timed at each mark."""


class _Series(NamedTuple):
    title: str
    amounts: tuple[int, ...]
    late: str
    """Of which interrupt the second figure tells."""
    amid: Callable[[int, Callable[[], float]], float]
    """Takes a figure amid so many of them."""


def _measure(*, quick: bool, tell: Tell) -> Found:
    skipped: list[str] = []
    found: Found = {"series": {}, SKIPPED: skipped}
    most = 100_000 if quick else 1_000_000
    tell(f"{most:,} invocations in one process")
    with Child("costs.growth", "invocations", most, 0) as child:
        found["invocations"] = list(child.hear_all(count=len(str(most)) - 3))
    for name in _SOON_THERE if quick else SERIES:
        amounts, points = SERIES[name].amounts, found["series"].setdefault(name, [])
        for amount in (amounts[0], amounts[-1]) if quick else amounts:
            tell(f"{amount:,} {SERIES[name].title}")
            try:
                with Child("costs.growth", name, amount, 0 if quick else _TIMEOUTS) as child:
                    points.append({"amount": amount, **child.hear()})
            except Broken as error:
                skipped.append(str(error))
    return found


def _tables(found: Found) -> list[Table]:
    tables = []
    for name, points in found["series"].items():
        title, _, late, _ = SERIES[name]
        rows = [
            (
                f"{point['amount']:,}",
                f"{point['base']:,.0f}",
                f"{point['ns']:,.0f}",
                digits(quantile(point["ms"], 0.5)) if point["ms"] else "-",
            )
            for point in points
        ]
        head = (title, "a call without, ns", "with them, ns", f"due to interrupt, ms: {late}")
        tables.append(Table(f"With more {title}", head, rows))
    marks = [
        (f"{mark['invocations']:,}", f"{mark['ns']:,.0f}", f"{mark['rss'] / 1e6:.2f}")
        for mark in found["invocations"]
    ]
    of_marks = ("invocations", "a call, ns", "resident memory, MB")
    return [*tables, Table("With more invocations in one process", of_marks, marks)]


def _goals(found: Found) -> list[Goal]:
    first, *_, last = found["invocations"]
    what = f"memory that {last['invocations']:,} invocations leave behind"
    reason = "Something is kept for each invocation; python3 dev.py flat tells what."
    return [Goal(what, (last["rss"] - first["rss"]) / 1e6, 0.1, "MB", limit=1, reason=reason)]


def _ratios(found: Found) -> list[Ratio]:
    above = {mark["invocations"]: mark["ns"] / mark["bare"] for mark in found["invocations"]}
    many = 100_000
    what = f"growth: a call after {many:,} invocations, beside one after 1,000"
    values = {what: above[many] / above[1000]}
    for name in _SOON_THERE:
        for last in found["series"][name][-1:]:
            what = f"growth: a call with {last['amount']:,} {SERIES[name].title}, beside none"
            values[what] = last["ratio"]
    why = "the same code in the same process; what is left is the machine's noise"
    return [Ratio(what, value, 1.3, why, floor=1.3) for what, value in values.items()]


PART: Final = Part(
    name="growth",
    title="How the costs grow",
    about="Each point has a process of its own. A call's cost is measured as above; an interrupt's "
    f"is the time from due until a waiting handler saw it, the median of {_TIMEOUTS}. *Without* is "
    "the same process without them, in turns, and the least of each is shown. The watched calls at "
    "once are in threads of their own and return to Python every millisecond, because off the main "
    "thread nothing else can be interrupted.",
    measure=_measure,
    tables=_tables,
    goals=_goals,
    ratios=_ratios,
)


def main(series: str, amount: str, timeouts: str) -> None:
    """Tell one line: what a call costs and how late the interrupts were; or one for each mark."""
    channel = Channel()
    count = int(amount)
    if series == "invocations":
        _invocations(channel, count)
        return
    amid = SERIES[series].amid
    rounds, times = (1, 45) if series in _SOON_THERE else (15, 3)
    calls = Above()
    turns = [(calls.time(rounds), amid(count, lambda: calls.time(rounds))) for _ in range(times)]
    # Other work on the machine adds, and takes nothing away: the least of three, or the quieter
    # quarter of many. It seldom begins within a turn, so the ratio is the turns' median.
    base, ns = (quantile(each, 0.25) for each in zip(*turns, strict=True))
    ratio = quantile((with_them / without for without, with_them in turns), 0.5)
    seen = _together if series == "concurrent" else lambda count: amid(count, _seen_after)
    ms = [seen(count) for _ in range(int(timeouts))]
    channel.tell(base=base, ns=ns, ratio=ratio, ms=ms)


def _wait(pause: float) -> None:
    while True:
        time.sleep(pause)


def _seen_after(pause: float = 30.0) -> float:
    """Milliseconds from due until a handler saw it that waits, so long at a time."""
    return watchdog(partial(_wait, pause), _GRACE) * 1000


def _with_hooks(count: int, then: Callable[[], float]) -> float:
    with contextlib.ExitStack() as hooks:
        for _ in range(count):
            hooks.enter_context(scoped_hook(int))
        return then()


def _at_depth(count: int, then: Callable[[], float]) -> float:
    return _at_depth(count - 1, then) if count > 1 else then()


def _started(count: int, target: Callable[[], object]) -> list[threading.Thread]:
    # Not a pool's, whose frames would be part of each thread's stack.
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _beside_threads(count: int, then: Callable[[], float], wait: Callable[..., object]) -> float:
    """With so many threads that run `wait`, which is given what they wait for."""
    over = threading.Event()
    threads = _started(count, lambda: wait(over))
    try:
        return then()
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _beside_calls(count: int, then: Callable[[], float]) -> float:
    """With so many less one under way in other threads."""
    there = threading.Barrier(count)

    def wait(over: threading.Event, _context: object) -> None:
        there.wait()
        over.wait()

    def then_all_there() -> float:
        there.wait()
        return then()

    return _beside_threads(count - 1, then_all_there, lambda over: watch(wait)(over, context()))


SERIES: Final = {
    "hooks": _Series(
        "hooks", (1, 10, 100, 1000), "of a waiting handler, behind all hooks", _with_hooks
    ),
    "depth": _Series("frames on the stack", (1, 10, 100, 900), "of a waiting handler", _at_depth),
    "threads": _Series(
        "waiting threads",
        (0, 1, 10, 100, 1000),
        "of a waiting handler",
        lambda count, then: _beside_threads(count, then, threading.Event.wait),
    ),
    "concurrent": _Series("watched calls at once", (1, 10, 100), "the last of all", _beside_calls),
}


def _invocations(channel: Channel, count: int) -> None:
    """Tell what a call costs, and the memory, after 1,000, 10,000, ... of them."""
    watched, made, mark = watch(noop), 0, 1000
    while mark <= count:
        while made < mark:
            batch(watched, context(later_ms=made), _BLOCK)
            made += _BLOCK
        given = context(later_ms=made)
        # In turns with a bare one, because what slows both down is not what is looked for: other
        # work that begins between two marks.
        turns = [
            (batch(watched, given, _BLOCK), batch(noop, given, _BLOCK)) for _ in range(_BLOCKS)
        ]
        ns, bare = (quantile(found, 0.25) / _BLOCK for found in zip(*turns, strict=True))
        channel.tell(invocations=mark, ns=ns, bare=bare, rss=resident())
        made += _BLOCK * _BLOCKS
        mark *= 10


def _together(count: int) -> float:
    """So many that are due at once, in threads, which look up every millisecond: the last one."""
    late: list[float] = []
    for thread in _started(count, lambda: late.append(_seen_after(0.001))):
        thread.join()
    if len(late) < count:
        raise AssertionError(f"{count - len(late)} of {count} were not interrupted")
    return max(late)
