"""The figures as plots: the cost of a call, the way from deadline to interrupt, and growth."""

from __future__ import annotations

from typing import Final

from benchmarks.drawing import (
    ALARM,
    INK,
    LOOKS,
    OTHER,
    OURS,
    blank,
    say_delays,
    say_ways,
    strip,
    style,
    to_svg,
)

from .calls import GOAL_NS
from .growth import SERIES
from .interrupts import STATES, WAYS
from .registry import NO_RIVALS, RECIPE
from .registry import OURS as OUR_WAYS
from .report import Found, above, quantile

_BESIDE: Final = {
    "0": "alone",
    "3": "3 busy threads",
    "50": "50 busy threads",
    "quota": "small quota",
}


def calls(found: Found) -> str:
    """What each way to watch adds to a call: a bar each, on a scale of powers of ten."""
    rows = sorted((row["above"], name) for name, row in found["ways"].items() if name != "bare")
    with style("costs-calls"):
        height = len(rows) * 0.24 + 0.9
        figure = blank(8.6, height)
        axes = figure.add_axes((0.22, 0.45 / height, 0.68, 1 - 0.75 / height))
        strip(axes, "top", "right", "left")
        axes.set_xscale("log")
        first = 100
        for place, (cost, name) in enumerate(rows):
            ours, rival = name in OUR_WAYS, name not in NO_RIVALS
            color = OURS if ours else ALARM if name == RECIPE else OTHER if rival else INK
            axes.barh(place, max(cost, first), height=0.62, left=0, color=color)
            axes.annotate(
                above(cost),
                (max(cost, first) * 1.08, place),
                va="center",
                fontweight="bold" if ours else "normal",
            )
        axes.axvline(GOAL_NS, color=INK, linewidth=0.8, linestyle=":")
        axes.annotate(
            "goal", (GOAL_NS, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom"
        )
        axes.set_yticks(range(len(rows)), [name for _, name in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(first, max(cost for cost, _ in rows) * 2.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xticks([100, 1_000, 10_000, 100_000], ["0.1 µs", "1 µs", "10 µs", "100 µs"])
        axes.minorticks_off()
        axes.set_xlabel("added to one call of a handler that does nothing")
        return to_svg(figure)


def interrupts(found: Found) -> str:
    """From due until the handler saw it: the middle, and a line from the best to the worst."""
    places = [
        (state, beside)
        for state in STATES
        for beside in _BESIDE
        if beside in found["rows"].get(state, {})
    ]
    with style("costs-interrupts"):
        height = len(places) * 0.26 + 1.2
        figure = blank(8.6, height)
        axes = figure.add_axes((0.22, 0.5 / height, 0.74, 1 - 1.0 / height))
        strip(axes, "top", "right", "left")
        axes.set_xscale("log")
        for place, (state, beside) in enumerate(places):
            for way, shift in zip(WAYS, (-0.14, 0.14), strict=True):
                late = found["rows"][state][beside].get(way)
                if not late:
                    continue
                at = place + shift
                axes.hlines(at, min(late), max(late), color=LOOKS[way]["color"], linewidth=1.2)
                middle = quantile(late, 0.5)
                axes.plot([middle], [at], markersize=4.5, markeredgewidth=0, **LOOKS[way])
        labels = [f"{state.replace('gil', 'GIL')}, {_BESIDE[beside]}" for state, beside in places]
        axes.set_yticks(range(len(places)), labels)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(places) - 0.4, -0.6)
        say_delays(axes)
        axes.minorticks_off()
        axes.grid(visible=True, axis="x", color=INK, alpha=0.25, linewidth=0.5)
        say_ways(axes, WAYS, (0, 1.0), markersize=4.5, markeredgewidth=0)
        return to_svg(figure)


def growth(found: Found) -> str:
    series = found["series"]
    with style("costs-growth"):
        figure = blank(8.6, 4.0)
        for column, (name, points) in enumerate(series.items()):
            left = 0.075 + column * 0.235
            places = (left, 0.56, 0.18, 0.34), (left, 0.13, 0.18, 0.34)
            amounts = [max(point["amount"], 0.5) for point in points]
            for row, place in enumerate(places):
                axes = figure.add_axes(place)
                strip(axes, "top", "right")
                axes.set_xscale("log")
                figures = [
                    point["ns"] / 1000 if row == 0 else quantile(point["ms"], 0.5)
                    for point in points
                ]
                axes.plot(amounts, figures, color=OURS, marker="o", markersize=3.5, linewidth=1)
                axes.set_ylim(0, max(figures) * 1.25)
                if row == 1:
                    axes.set_xlabel(SERIES[name].title)
                if column == 0:
                    axes.set_ylabel("a call, µs" if row == 0 else "due to interrupt, ms")
        return to_svg(figure)


DRAWN: Final = {"calls": calls, "interrupts": interrupts, "growth": growth}
"""By the part whose figures each shows."""
