"""How the costs grow with what a function has: hooks, frames, threads, invocations, other calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.children import Broken, Child

from .parts import SKIPPED, Part
from .report import Goal, Ratio, Table, digits, quantile

if TYPE_CHECKING:
    from .parts import Found, Tell

_TIMEOUTS: Final = 3
_MILLION: Final = 1_000_000


class _Series(NamedTuple):
    """What there is more and more of."""

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
    with Child("costs.growth_child", "invocations", most, 0) as child:
        marks = len(str(most)) - 3
        found["invocations"] = list(child.hear_all(marks))
    chosen = ("hooks", "depth") if quick else tuple(SERIES)
    for series in (SERIES[name] for name in chosen):
        amounts = (series.amounts[0], series.amounts[-1]) if quick else series.amounts
        points = found["series"][series.name] = []
        for amount in amounts:
            tell(f"{amount:,} {series.title}")
            try:
                with Child(
                    "costs.growth_child", series.name, amount, 0 if quick else _TIMEOUTS
                ) as child:
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


def _beside_bare(mark: dict[str, Any]) -> float:
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
    marks = found["invocations"]
    why = "the same code in the same process; what is left is the machine's noise"
    ratios = [
        Ratio(
            f"growth: a call after {_MILLION // 10:,} invocations, beside one after 1,000",
            _beside_bare(mark) / _beside_bare(marks[0]),
            1.3,
            why,
            floor=1.3,
        )
        for mark in marks
        if mark["invocations"] == _MILLION // 10
    ]
    for name in ("hooks", "depth"):
        points = found["series"].get(name, [])
        if len(points) > 1:
            last = points[-1]
            ratios.append(
                Ratio(
                    f"growth: a call with {last['amount']:,} {SERIES[name].title}, beside none",
                    last.get("ratio", last["ns"] / last["base"]),
                    1.3,
                    why,
                    floor=1.3,
                )
            )
    return ratios


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
