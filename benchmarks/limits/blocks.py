"""``time_limit`` and what else ends a block: calls that are reached, and what a block costs.

    python3 dev.py blocks
    python3 dev.py blocks --quick           # a dozen calls that stand for the rest
    python3 dev.py blocks lock regex

Each call of `limits` is made once in a block whose time is up after 0.2 s, in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from benchmarks.children import Broken, Child
from benchmarks.pages import remake
from benchmarks.surroundings import machine
from tools import ROOT

from . import cells
from .block_ways import WAYS
from .calls import CALLS
from .results import in_ms

FIGURES: Final = ROOT / "docs" / "explanation" / "blocks.json"
PAGE: Final = ROOT / "docs" / "how-to" / "limit-a-block.md"
_AT_A_TIME: Final = 4  # what is reached counts more here than how fast


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, and write it into the page unless calls were named."""
    only = [name for name in arguments if name != "--quick"]
    chosen = only or [c.name for c in CALLS.values() if c.is_quick or "--quick" not in arguments]

    def measure(pair: tuple[str, str]) -> dict[str, Any]:
        name, way = pair
        try:
            run = cells.run(sys.executable, name, way)
        except Broken as error:
            return {"ms": None, "caller_ms": None, "failed": str(error).splitlines()[0]}
        return {"ms": run.ms, "caller_ms": run.hook_ms}

    pairs = [(name, way) for name in chosen for way in WAYS]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        found = dict(zip(pairs, pool.map(measure, pairs), strict=True))
    with Child("limits.block_ways") as child:
        costs = {told.pop("way"): told for told in child.hear_all(len(WAYS), within=300.0)}
    figures = {
        "machine": machine(),
        "python": sys.version.split()[0],
        "costs": costs,
        "calls": {way: {n: cell for (n, w), cell in found.items() if w == way} for way in WAYS},
    }
    print(*table(figures), sep="\n")
    if not only:
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        remake(PAGE)
    return 0


def table(figures: dict[str, Any]) -> list[str]:
    lines = [
        "| | calls interrupted | median of these | a block in time | threads | takes |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for way, calls in figures["calls"].items():
        reached = [cell["ms"] for cell in calls.values() if cell["ms"] is not None]
        left = sum(c["ms"] is None and c["caller_ms"] is not None for c in calls.values())
        behind = f", {left} left behind" if left else ""
        cost = figures["costs"][way]
        lines.append(
            f"| {WAYS[way].title} | {len(reached)} of {len(calls)}{behind} "
            f"| {in_ms(statistics.median(reached)) if reached else '-'} ms "
            f"| {cost['us']:.1f} us | {cost['threads']:g} | {cost['takes'] or '-'} |"
        )
    return lines


def show() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    print(f"On {figures['machine']}, CPython {figures['python']}:\n", *table(figures), sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
