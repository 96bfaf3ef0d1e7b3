"""The page's files: the figures as measured, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.pages import remake
from benchmarks.surroundings import ROOT

from .registry import PARTS
from .results import Results, is_missing

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = ROOT / "docs" / "explanation"
PAGE: Final = FOLDER / "costs.md"
FIGURES: Final = FOLDER / "costs.json"


def read() -> Results:
    """The figures that the page shows."""
    return Results.from_json(FIGURES.read_text(encoding="utf-8"))


def missing(results: Results) -> list[str]:
    """The parts that the page cannot do without and that have no figures."""
    return [n for n in PARTS if n not in results.parts or is_missing(results.parts[n])]


def drawn() -> dict[Path, str]:
    """What each plot must be."""
    from .plots import DRAWN  # noqa: PLC0415 - matplotlib: a second, and only for the page

    parts = read().parts
    return {FOLDER / f"costs-{name}.svg": draw(parts[name]) for name, draw in DRAWN.items()}


def redraw() -> None:
    """Make page and plots of the figures that are kept."""
    for path, text in drawn().items():
        path.write_text(text, encoding="utf-8")
    remake(PAGE)
