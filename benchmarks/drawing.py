"""What all plots share: they are text, legible on light and dark pages, and the same every time."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

# Colours that keep their distance to white and to black alike, and to each other without red and
# green; the shapes say the same.
INK: Final = "#7d8590"
OURS: Final = "#2f81f7"
ALARM: Final = "#c58a12"
OTHER: Final = "#bf4b8a"


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


def to_svg(figure: Figure) -> str:
    """The figure's text; to be called within :func:`style`."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    # The library leaves blanks at the ends of lines.
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"
