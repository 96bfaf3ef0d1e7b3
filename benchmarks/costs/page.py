"""The parts of the page that are made of the results; cog puts each where the page asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import docs
from .baseline import compare
from .baseline import read as read_baseline
from .contenders import CONTENDERS
from .registry import PARTS
from .report import digits
from .results import is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .parts import Part
    from .results import Results


def show(name: str) -> None:
    """Print the part of this name."""
    results = docs.read()
    parts = {
        "machine": _machine(results),
        "goals": _goals(results),
        "contenders": _contenders(results),
        "baseline": _baseline(results, read_baseline()),
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
    goals = list(results.goals())
    yield "| goal | at most | measured | |"
    yield "|---|---:|---:|---|"
    for goal in goals:
        unit = f" {goal.unit}" if goal.unit else ""
        verdict = "met" if goal.is_met else "**missed**"
        yield (
            f"| {goal.what} | {digits(goal.most)}{unit} | {digits(goal.figure)}{unit} | {verdict} |"
        )
    missed = [goal for goal in goals if not goal.is_met]
    if missed:
        yield ""
        yield "What is missed, why, and what would be needed:"
        yield ""
    for goal in missed:
        yield f"- **{goal.what}** ({goal.figures()}). {goal.reason}"


def _contenders(results: Results) -> Iterator[str]:
    measured = results.parts["calls"]["ways"]
    for name, contender in CONTENDERS.items():
        if name in measured:
            yield f"- *{name}*: {contender.how}."


def _baseline(results: Results, kept: dict[str, float]) -> Iterator[str]:
    yield "| ratio | baseline | it may be | because |"
    yield "|---|---:|---:|---|"
    for compared in compare(results.ratios(), kept):
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
