"""The files of the page: the figures as measured, and what is made of them and shown there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.pages import remake
from tools import ROOT

from . import baseline
from .contenders import CONTENDERS
from .report import Part, digits
from .results import PARTS, Results, is_missing

FOLDER: Final = ROOT / "docs" / "explanation"
PAGE: Final = FOLDER / "costs.md"
FIGURES: Final = FOLDER / "costs.json"
"""Of the Python that the page is about. Those of another are in `costs-3.14.json`, for example."""


def read(path: Path = FIGURES) -> Results:
    return Results.from_json(path.read_text(encoding="utf-8"))


def keep(results: Results) -> None:
    minor, its = (run.python.rpartition(".")[0] for run in (results, read()))
    path = FIGURES if minor == its else FIGURES.with_stem(f"costs-{minor}")
    path.write_text(results.to_json(), encoding="utf-8")


def missing(results: Results) -> list[str]:
    """The parts that the page cannot do without and that have no figures."""
    return [n for n in PARTS if n not in results.parts or is_missing(results.parts[n])]


def drawn() -> dict[Path, str]:
    from .plots import DRAWN  # noqa: PLC0415 - matplotlib: a second, and only for the page

    parts = read().parts
    return {FOLDER / f"costs-{name}.svg": draw(parts[name]) for name, draw in DRAWN.items()}


def redraw() -> None:
    for path, text in drawn().items():
        path.write_text(text, encoding="utf-8")
    remake(PAGE)


def show(name: str) -> None:
    results = read()
    parts = {
        "machine": _machine(results),
        "goals": _goals(results),
        "contenders": _contenders(results),
        "baseline": _baseline(results, baseline.read()),
    }
    parts |= {name: _part(part, results) for name, part in PARTS.items()}
    print(*parts[name], sep="\n")


def _machine(results: Results) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield (
        f"Measured on {results.date}: {results.machine}, {results.processor}, "
        f"kernel {results.kernel}, CPython {results.python}; {versions}."
    )


def _goals(results: Results) -> Iterator[str]:
    runs = [results, *map(read, sorted(FOLDER.glob("costs-*.json")))]
    yield f"| goal | at most |{''.join(f' CPython {run.python} | |' for run in runs)}"
    yield f"|---|---:|{'---:|---|' * len(runs)}"
    by_run = [{goal.what: goal for goal in run.goals()} for run in runs]
    missed: dict[str, str] = {}
    for what, goal in by_run[0].items():
        unit = f" {goal.unit}" if goal.unit else ""
        row = [what, f"{digits(goal.most)}{unit}"]
        for run, goals in zip(runs, by_run, strict=True):
            found = goals[what]
            row += [f"{digits(found.figure)}{unit}", "met" if found.is_met else "**missed**"]
            if not found.is_met:
                where = "" if run is results else f"{run.python}: "
                missed.setdefault(what, f"({where}{found.figures()}). {found.reason}")
        yield f"| {' | '.join(row)} |"
    if missed:
        yield from ("", "What is missed, why, and what would be needed:", "")
    for what, why in missed.items():
        yield f"- **{what}** {why}"


def _contenders(results: Results) -> Iterator[str]:
    measured = results.parts["calls"]["ways"]
    for name, contender in CONTENDERS.items():
        if name in measured:
            yield f"- *{name}*: {contender.how}."


def _baseline(results: Results, kept: dict[str, float]) -> Iterator[str]:
    yield "| ratio | baseline | it may be | because |"
    yield "|---|---:|---:|---|"
    for compared in baseline.compare(results.ratios(), kept):
        if compared.baseline is not None and compared.most is not None:
            figures = f"{digits(compared.baseline)} | {digits(compared.most)}"
            yield f"| {compared.ratio.name} | {figures} | {compared.ratio.why} |"


def _part(part: Part, results: Results) -> Iterator[str]:
    yield part.about
    yield ""
    found = results.parts[part.name]
    if not is_missing(found):
        for table in part.tables(found):
            yield from table.lines()
    for reason in found["skipped"]:
        yield f"Not measured: {reason.splitlines()[0]}."
