"""The page's files: the figures as measured, and what is made of them."""

from __future__ import annotations

from typing import Final

from benchmarks.pages import remake
from benchmarks.surroundings import ROOT

from .results import Results

FOLDER: Final = ROOT / "docs" / "explanation"
PAGE: Final = FOLDER / "limits.md"
FIGURES: Final = FOLDER / "limits.json"
PLOT: Final = FOLDER / "limits.svg"


def read() -> Results:
    """The figures that the page shows."""
    return Results.from_json(FIGURES.read_text(encoding="utf-8"))


def drawn() -> str:
    """What the plot must be."""
    from .plot import draw  # noqa: PLC0415 - matplotlib: a second, and only for the page

    return draw(read())


def redraw() -> None:
    """Make page and plot of the figures that are kept."""
    PLOT.write_text(drawn(), encoding="utf-8")
    remake(PAGE)
