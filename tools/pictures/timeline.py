"""One invocation to scale: what happened in a real run, with the watchdog and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from benchmarks.drawing import ALARM, INK, OTHER, OURS, blank, strip, style, to_svg

_LOOKS: Final = {
    "running": OURS,
    "hook": ALARM,
    "interrupt": OTHER,
    "cleanup": OTHER,
    "left": INK,
    "killed": INK,
}


@dataclass(frozen=True, slots=True)
class Run:
    timeout: float
    grace_period: float
    last_call: float
    python: str
    awslambdaric: str
    watched: list[dict[str, Any]]
    """The rows of `watchdog-lambda invoke --json`."""
    unwatched: list[dict[str, Any]]
    answer: str
    error: str


def draw(run: Run) -> str:
    rows = [row for row in run.watched if row["phase"] not in {"init", "settle"}]
    killed = next(row["start"] for row in run.unwatched if row["phase"] == "killed")
    with style("timeline"):
        figure = blank(9.4, 3.4)
        axes = figure.add_axes((0.02, 0.09, 0.96, 0.73))
        strip(axes, "top", "left", "right")
        for place, row in enumerate(rows):
            start, end = row["start"], row["end"]
            thickness = 0.1 if row["phase"] == "left" else 0.6
            width = max(end - start, 0.05)
            axes.barh(place, width, left=start, height=thickness, color=_LOOKS[row["phase"]])
            inside = row["phase"] == "running"
            axes.annotate(
                _text(run, row),
                (0.1 if inside else start - 0.1, place),
                ha="left" if inside else "right",
                va="center",
                color="#ffffff" if inside else INK,
            )
        below = len(rows)
        axes.barh(below, killed, height=0.6, color=INK, alpha=0.2)
        axes.plot([killed], [below], marker="x", color=INK, clip_on=False)
        without = f"without the watchdog: killed; the caller has “{run.error}”"
        axes.annotate(without, (0.1, below), va="center")
        _mark_instants(axes, run)
        axes.set_xlim(0, run.timeout)
        axes.set_ylim(below + 0.6, -0.6)
        axes.set_yticks([])
        ticks = range(0, round(run.timeout) + 1, 3)
        axes.set_xticks(ticks, [f"{second} s" for second in ticks])
        return to_svg(figure)


def _mark_instants(axes: Any, run: Run) -> None:
    grace, last = run.timeout - run.grace_period, run.timeout - run.last_call
    for height, low, instant, what in (
        # The first line ends above the texts of the rows below, which it would cross.
        (1.02, 0.66, grace, f"{grace:g} s: the grace period begins"),
        (1.10, 0.0, last, f"{last:g} s: last call, nothing is left alone any more"),
        (1.18, 0.0, run.timeout, f"{run.timeout:g} s: hard deadline, Lambda kills"),
    ):
        axes.axvline(instant, low, color=INK, linewidth=0.8, linestyle=":", clip_on=False)
        place: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "ha": "right",
            "va": "bottom",
        }
        axes.annotate(what, (instant, height), **place)


def _text(run: Run, row: dict[str, Any]) -> str:
    took = f"{row['end'] - row['start']:.1f} s"
    return {
        "running": "the handler runs",
        "hook": f"a shutdown hook runs, {took}",
        "interrupt": f"LambdaTimeout lands in the handler, at {row['start']:.2f} s",
        "cleanup": f"its except and finally run, {took}",
        "left": f"the caller has {run.answer}, {took} to spare",
    }[row["phase"]]
