"""The table as a plot: how long until the handler saw the interrupt, call by call."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes

from benchmarks.drawing import INK, LOOKS, blank, say_delays, say_ways, strip, style, to_svg

from .calls import CALLS, GROUPS
from .results import TITLES, Results

_FIRST_MS: Final = 0.03
_ROW: Final = 0.17  # inches


def draw(results: Results) -> str:
    """The plot, as SVG for light and dark pages alike."""
    with style("limits"):
        rows, groups = _layout()
        height = max(rows.values()) * _ROW + 1.4
        figure = blank(8.6, height)
        axes = figure.add_axes((0.44, 0.5 / height, 0.54, 1 - 1.1 / height))
        late = results.window_s * 1000 * 2.4
        _set_up(axes, rows, groups, results.window_s * 1000, late)
        for way in TITLES:
            _plot_way(axes, results, way, rows, late)
        place = (-0.02, 1.0 + 0.25 / height, 0, 0)
        say_ways(axes, TITLES, place, linestyle="", markersize=4)
        return to_svg(figure)


def _layout() -> tuple[dict[str, float], dict[str, float]]:
    """How far down each call and each group's title stand, in rows."""
    rows: dict[str, float] = {}
    groups: dict[str, float] = {}
    down = 0.0
    for group in GROUPS:
        down += 0.6
        groups[group.title] = down
        for call in group.calls:
            down += 1
            rows[call.name] = down
        down += 1
    return rows, groups


def _set_up(
    axes: Axes, rows: dict[str, float], groups: dict[str, float], window: float, late: float
) -> None:
    strip(axes, "top", "right", "left")
    axes.set_xscale("log")
    axes.set_xlim(_FIRST_MS, late * 1.8)
    axes.set_ylim(max(rows.values()) + 0.8, -0.2)
    axes.axvspan(window, late * 1.8, color=INK, alpha=0.12, linewidth=0)
    axes.hlines(
        list(rows.values()), _FIRST_MS, late * 1.8, color=INK, alpha=0.2, linewidth=0.5, zorder=0
    )
    say_delays(axes, never=late)
    axes.tick_params(axis="x", which="both", top=True, labeltop=True, length=2)
    axes.set_yticks(list(rows.values()), [CALLS[name].plain_label for name in rows])
    axes.tick_params(axis="y", length=0)
    for title, row in groups.items():
        axes.annotate(
            title.replace("`", ""),
            (-0.012, row),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontweight="bold",
            fontsize=8.5,
        )


def _plot_way(axes: Axes, results: Results, way: str, rows: dict[str, float], late: float) -> None:
    """A point for each interpreter; no way hides another."""
    shift = list(TITLES).index(way) - 1
    points = [
        # Those that were not interrupted stand side by side.
        (late * 1.35**shift, row)
        if cell.figure is None
        else (max(cell.figure, _FIRST_MS), row + shift * 0.2)
        for name, row in rows.items()
        for cell in results.across(name, way)
    ]
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, linestyle="", markersize=3.6, markeredgewidth=0, alpha=0.8, **LOOKS[way])
