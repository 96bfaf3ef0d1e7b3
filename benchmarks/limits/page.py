"""The files of the page: the figures as measured, and what is made of them and shown there."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.pages import remake
from tools import ROOT

from .calls import CALLS, GROUPS
from .results import TITLES, Cell, Results, in_ms, is_emulated

FOLDER: Final = ROOT / "docs" / "explanation"
PAGE: Final = FOLDER / "limits.md"
FIGURES: Final = FOLDER / "limits.json"
PLOT: Final = FOLDER / "limits.svg"


def read() -> Results:
    return Results.from_json(FIGURES.read_text(encoding="utf-8"))


def drawn() -> str:
    from .plot import draw  # noqa: PLC0415 - matplotlib: a second, and only for the page

    return draw(read())


def redraw() -> None:
    PLOT.write_text(drawn(), encoding="utf-8")
    remake(PAGE)


def show(name: str) -> None:
    make = {"summary": _summary, "emulated": _emulated, "unreached": _unreached, "table": _table}
    print(*make[name](read()), sep="\n")


def _summary(results: Results) -> list[str]:
    how = f"{len(CALLS)} calls on {results.machine}, CPython {_and(results.interpreters)}"
    lines = [
        f"{how}; grace period {results.grace_period_s} s, medians of {results.runs} runs.",
        "",
        "| on CPython | | " + " | ".join(TITLES.values()) + " |",
        "|---|---|" + "---:|" * len(TITLES),
    ]
    for version in results.interpreters:
        rows = results.cells[version]
        columns = [[row[way] for row in rows.values()] for way in TITLES]
        interrupted = [[c.figure for c in column if c.figure is not None] for column in columns]
        counts = (f"{len(found)} of {len(rows)}" for found in interrupted)
        within = f"interrupted within {results.window_s:.0f} s"
        lines.append(f"| {version} | {within} | {' | '.join(counts)} |")
        medians = (f"{in_ms(statistics.median(found))} ms" for found in interrupted)
        lines.append(f"| | median of these | {' | '.join(medians)} |")
    return lines


def _emulated(results: Results) -> list[str]:
    """What is reached on another processor; the times are those of its emulator."""
    native = results.cells[results.interpreters[-1]]
    lines: list[str] = []
    for version in filter(is_emulated, results.cells):
        rows = results.cells[version]
        reached = {
            way: sum(row[way].figure is not None for row in rows.values())
            for way in ("watchdog", "alarm")
        }
        unlike = [
            CALLS[name].label
            for name, row in rows.items()
            if (row["watchdog"].figure is None) != (native[name]["watchdog"].figure is None)
        ]
        lines.append(
            f"CPython {version}: of {len(rows)} calls, {reached['watchdog']} are interrupted "
            f"within {results.window_s:.0f} s, and {reached['alarm']} with SIGALRM. "
            f"The result differs from that of CPython {results.interpreters[-1]} on this "
            f"machine's own processor for: {', '.join(unlike) or 'none'}."
        )
    return lines


def _table(results: Results) -> list[str]:
    lines: list[str] = []
    for group in GROUPS:
        head = "| call | " + " | ".join(TITLES.values()) + " |"
        lines += ["", f"### {group.title}", "", head, "|---|" + "---:|" * len(TITLES)]
        for call in group.calls:
            cells = (_joined(map(str, results.across(call.name, way))) for way in TITLES)
            lines.append(f"| {call.label}{_remarks(results, call.name)} | {' | '.join(cells)} |")
    return [*lines, ""]


def _remarks(results: Results, name: str) -> str:
    """What happened besides the interrupt, and where."""
    remarks: dict[str, list[str]] = {}
    for way, title in TITLES.items():
        for version, cell in zip(results.interpreters, results.across(name, way), strict=True):
            for remark in cell.notes:
                remarks.setdefault(f"{remark}: {title}", []).append(_minor(version))
    return "".join(f"; {remark} on {_and(where)}" for remark, where in remarks.items())


def _unreached(results: Results) -> list[str]:
    lines = ["| call | interrupted | hook ran | record |", "|---|---:|---:|---|"]
    for name, call in CALLS.items():
        cells = results.across(name, "watchdog")
        if all(cell.figure is not None for cell in cells):
            continue
        hooks = _joined(in_ms(cell.hook_figure) for cell in cells)
        records = _joined(_record(cell) for cell in cells)
        lines.append(f"| {call.label} | {_joined(map(str, cells))} | {hooks} | {records} |")
    return lines


def _record(cell: Cell) -> str:
    return f"`{cell.outcome}`" if cell.outcome else "-" if cell.figure is not None else "none"


def _joined(texts: Iterable[str]) -> str:
    """The same on each interpreter: once. Otherwise one after the other."""
    found = list(texts)
    return found[0] if len(set(found)) == 1 else " / ".join(found)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
