"""The page's files: the figures as measured, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.surroundings import ROOT

from .page import fill_in
from .results import Results

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = ROOT / "docs" / "explanation"
PAGE: Final = FOLDER / "limits.md"
FIGURES: Final = FOLDER / "limits.json"
PLOT: Final = FOLDER / "limits.svg"


def read() -> Results:
    """The figures that the page shows."""
    return Results.from_json(FIGURES.read_text(encoding="utf-8"))


def made_of(results: Results) -> dict[Path, str]:
    """What each file must say then."""
    from .plot import draw  # noqa: PLC0415 - matplotlib: a second, and only for the page

    return {
        FIGURES: results.to_json(),
        PAGE: fill_in(PAGE.read_text(encoding="utf-8"), results),
        PLOT: draw(results),
    }


def write(results: Results) -> None:
    """Make the page's files anew; its prose stays."""
    for path, text in made_of(results).items():
        path.write_text(text, encoding="utf-8")
