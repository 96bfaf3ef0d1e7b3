"""The page's files: the figures as measured, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.surroundings import ROOT

from . import baseline
from .page import fill_in
from .registry import PARTS
from .results import Results, is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def made_of(results: Results) -> dict[Path, str]:
    """What each file must say then."""
    # The figures as they will be read again, so that a page that is made anew is the same.
    text = results.to_json()
    results = Results.from_json(text)
    page = fill_in(PAGE.read_text(encoding="utf-8"), results, baseline.read())
    return {FIGURES: text, PAGE: page, **dict(_plots(results))}


def _plots(results: Results) -> Iterator[tuple[Path, str]]:
    from .plots import DRAWN  # noqa: PLC0415 - matplotlib: a second, and only for the page

    for name, draw in DRAWN.items():
        yield FOLDER / f"costs-{name}.svg", draw(results.parts[name])


def write(results: Results) -> None:
    """Make the page's files anew; its prose stays."""
    for path, text in made_of(results).items():
        path.write_text(text, encoding="utf-8")
