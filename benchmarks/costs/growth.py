"""How the costs grow with what a function has: hooks, frames, threads, invocations, other calls.

``python -m benchmarks.costs.growth SERIES AMOUNT TIMEOUTS`` is one point of one series: what a call
costs, and how late an interrupt is, with so much of it.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.child import Channel, end_with_parent
from benchmarks.children import Broken, Child
from watchdog_lambda import remaining_time, scoped_hook, watch
from watchdog_lambda.testing import FakeContext

from .calls import batch, batch_size, later
from .contenders import context, noop
from .report import SKIPPED, Goal, Part, Ratio, Table, digits, quantile

if TYPE_CHECKING:
    from collections.abc import Callable

    from .report import Found, Tell

_TIMEOUTS: Final = 3
_MILLION: Final = 1_000_000
_TURNS: Final = 3
_ROUNDS: Final = 15
_GRACE: Final = 0.2
_SOON_THERE: Final = ("hooks", "depth")
"""Series of states that are entered and left in no time, so in turns for each single batch."""
_BLOCK: Final = 250
_BLOCKS: Final = 20
"""So many times so many calls are timed at each mark."""


class _Series(NamedTuple):
    name: str
    title: str
    amounts: tuple[int, ...]
    late: str
    """Of which interrupt the second figure tells."""


SERIES: Final = {
    series.name: series
    for series in (
        _Series("hooks", "hooks", (1, 10, 100, 1000), "of a waiting handler, behind all hooks"),
        _Series("depth", "frames on the stack", (1, 10, 100, 900), "of a waiting handler"),
        _Series("threads", "waiting threads", (0, 1, 10, 100, 1000), "of a waiting handler"),
        _Series("concurrent", "watched calls at once", (1, 10, 100), "the last of all"),
    )
}


def _measure(*, quick: bool, tell: Tell) -> Found:
    skipped: list[str] = []
    found: Found = {"series": {}, SKIPPED: skipped}
    most = _MILLION // 10 if quick else _MILLION
    tell(f"{most:,} invocations in one process")
    with Child("costs.growth", "invocations", most, 0) as child:
        marks = len(str(most)) - 3
        found["invocations"] = list(child.hear_all(marks))
    chosen = _SOON_THERE if quick else tuple(SERIES)
    for series in (SERIES[name] for name in chosen):
        amounts = (series.amounts[0], series.amounts[-1]) if quick else series.amounts
        points = found["series"][series.name] = []
        for amount in amounts:
            tell(f"{amount:,} {series.title}")
            try:
                with Child("costs.growth", series.name, amount, 0 if quick else _TIMEOUTS) as child:
                    points.append({"amount": amount, **child.hear()})
            except Broken as error:
                skipped.append(str(error))
    return found


def _tables(found: Found) -> list[Table]:
    tables = []
    for name, points in found["series"].items():
        series = SERIES[name]
        rows = [
            (f"{point['amount']:,}", f"{point['base']:,.0f}", f"{point['ns']:,.0f}", _late(point))
            for point in points
        ]
        head = (
            series.title,
            "a call without, ns",
            "with them, ns",
            f"due to interrupt, ms: {series.late}",
        )
        tables.append(Table(f"With more {series.title}", head, rows))
    marks = [
        (f"{mark['invocations']:,}", f"{mark['ns']:,.0f}", f"{mark['rss'] / 1e6:.2f}")
        for mark in found["invocations"]
    ]
    return [
        *tables,
        Table(
            "With more invocations in one process",
            ("invocations", "a call, ns", "resident memory, MB"),
            marks,
        ),
    ]


def _late(point: dict[str, Any]) -> str:
    return digits(quantile(point["ms"], 0.5)) if point["ms"] else "-"


def _above_bare(mark: dict[str, Any]) -> float:
    # Results that were kept before a bare call was measured as well have none.
    return float(mark["ns"] / mark.get("bare", 1.0))


def _grown(found: Found) -> int:
    marks = found["invocations"]
    return int(marks[-1]["rss"]) - int(marks[0]["rss"])


def _goals(found: Found) -> list[Goal]:
    marks = found["invocations"]
    what = f"memory that {marks[-1]['invocations']:,} invocations leave behind"
    reason = "Something is kept for each invocation; python3 dev.py flat tells what."
    return [Goal(what, _grown(found) / 1e6, 0.1, "MB", limit=1, reason=reason)]


def _ratios(found: Found) -> list[Ratio]:
    first = _above_bare(found["invocations"][0])
    values = {
        f"growth: a call after {_MILLION // 10:,} invocations, beside one after 1,000": (
            _above_bare(mark) / first
        )
        for mark in found["invocations"]
        if mark["invocations"] == _MILLION // 10
    }
    for name in _SOON_THERE:
        for last in found["series"].get(name, [])[1:][-1:]:
            what = f"growth: a call with {last['amount']:,} {SERIES[name].title}, beside none"
            values[what] = last.get("ratio", last["ns"] / last["base"])
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
    end_with_parent()
    channel = Channel()
    count, wanted = int(amount), int(timeouts)
    if series == "invocations":
        _invocations(channel, count)
        return
    amid = _STATES[series]
    is_soon_there = series in _SOON_THERE
    rounds, times = (1, _ROUNDS * _TURNS) if is_soon_there else (_ROUNDS, _TURNS)
    calls = _Calls()
    turns = [(calls.time(rounds), amid(count, lambda: calls.time(rounds))) for _ in range(times)]
    if is_soon_there:
        # A neighbour makes everything slower for a while, but seldom begins between two batches.
        ratio = quantile((with_them / without for without, with_them in turns), 0.5)
        base, ns = (quantile(found, 0.25) for found in zip(*turns, strict=True))
    else:
        # In turns, and the least of each: other work on the machine adds, and takes nothing away.
        base, ns = (min(found) for found in zip(*turns, strict=True))
        ratio = ns / base
    if series == "concurrent":
        ms = [_together(count) for _ in range(wanted)]
    else:
        ms = [amid(count, _seen_after) for _ in range(wanted)]
    channel.tell(base=base, ns=ns, ratio=ratio, ms=ms)


class _Calls:
    def __init__(self) -> None:
        self._watched = watch(noop)
        self._size, self._bare_size = batch_size(self._watched), batch_size(noop)

    def time(self, rounds: int) -> float:
        """Nanoseconds above bare, in the state that the process is in."""
        # Not of the differences: those are small where the unwatched batch was disturbed.
        bare = quantile((batch(noop, later(), self._bare_size) for _ in range(rounds)), 0.25)
        above = quantile((batch(self._watched, later(), self._size) for _ in range(rounds)), 0.25)
        return above / self._size - bare / self._bare_size


def _seen_after(wait: Callable[[], Any] = lambda: time.sleep(30)) -> float:
    """Milliseconds from due until a waiting handler saw it."""
    late: list[float] = []

    @watch(grace_period=_GRACE)
    def handler(_event: object, _context: object) -> None:
        due = time.monotonic() + remaining_time() - _GRACE
        try:
            wait()
        except TimeoutError:
            late.append(time.monotonic() - due)

    handler(None, FakeContext(4 * _GRACE))
    return late[0] * 1000


def _with_hooks(count: int, then: Callable[[], float]) -> float:
    with contextlib.ExitStack() as hooks:
        for _ in range(count):
            hooks.enter_context(scoped_hook(int))
        return then()


def _at_depth(count: int, then: Callable[[], float]) -> float:
    return _at_depth(count - 1, then) if count > 1 else then()


def _beside_threads(count: int, then: Callable[[], float]) -> float:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        return then()
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _beside_calls(count: int, then: Callable[[], float]) -> float:
    """With so many less one under way in other threads."""
    over = threading.Event()
    there = threading.Barrier(count)

    def wait(_event: object, _context: object) -> None:
        there.wait()
        over.wait()

    others = [
        threading.Thread(target=watch(wait), args=(None, context())) for _ in range(count - 1)
    ]
    for other in others:
        other.start()
    there.wait()
    try:
        return then()
    finally:
        over.set()
        for other in others:
            other.join()


_STATES: Final = {
    "hooks": _with_hooks,
    "depth": _at_depth,
    "threads": _beside_threads,
    "concurrent": _beside_calls,
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
        channel.tell(invocations=mark, ns=ns, bare=bare, rss=_resident())
        made += _BLOCK * _BLOCKS
        mark *= 10


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _together(count: int) -> float:
    """So many that are due at once, in threads, which look up every millisecond: the last one."""
    late: list[float] = []

    def one() -> None:
        with contextlib.suppress(Exception):
            late.append(_seen_after(_look_up))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(late) < count:
        raise AssertionError(f"{count - len(late)} of {count} were not interrupted")
    return max(late)


def _look_up() -> None:
    while True:
        time.sleep(0.001)


if __name__ == "__main__":
    main(*sys.argv[1:])
