"""What all plots share: they are text, legible on light and dark pages, and the same every time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Colours that keep their distance to white and to black alike, and to each other without red and
# green; the shapes say the same.
INK: Final = "#7d8590"
OURS: Final = "#2f81f7"
ALARM: Final = "#c58a12"
OTHER: Final = "#bf4b8a"

LOOKS: Final[dict[str, dict[str, Any]]] = {
    "watchdog": {"color": OURS, "marker": "o"},
    "alarm": {"color": ALARM, "marker": "D"},
    "injection": {"color": OTHER, "marker": "s"},
}
"""Of the ways to interrupt that are compared."""


@contextlib.contextmanager
def style(salt: str) -> Iterator[None]:
    """Settings for one plot; `salt` keeps the names inside of it apart from another's on a page."""
    settings: dict[Any, Any] = {
        # Text stays text, and nothing in the file depends on the day or the run.
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.size": 8,
        **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
    }
    with mpl.rc_context(settings):
        yield


def blank(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    return figure


def strip(axes: Axes, *sides: str) -> None:
    axes.patch.set_alpha(0)
    for side in sides:
        axes.spines[side].set_visible(False)


def say_ways(axes: Axes, titles: Mapping[str, str], place: tuple[float, ...], **look: Any) -> None:
    """Add a legend of the ways that are compared, by their names."""
    axes.legend(
        handles=[
            Line2D([], [], label=title, **look, **LOOKS[way]) for way, title in titles.items()
        ],
        loc="lower left",
        bbox_to_anchor=place,
        ncols=len(titles),
        frameon=False,
    )


def say_delays(axes: Axes, *, never: float | None = None) -> None:
    """Have the axis across show delays in powers of ten, and at last those that had no end."""
    ticks = {tick: f"{tick:g} ms" for tick in (0.1, 1, 10, 100, 1000)}
    if never is not None:
        ticks[never] = "no"
    axes.set_xticks(list(ticks), list(ticks.values()), minor=False)
    axes.set_xlabel("from the instant it was due until the handler saw it")


def to_svg(figure: Figure) -> str:
    """The figure's text; to be called within :func:`style`."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    # The library leaves blanks at the ends of lines.
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"
