"""What watching a handler costs, compared with other ways to do it, all in one run.

    python3 dev.py bench                                   everything, some 7 minutes
    python3 dev.py bench --quick --check                   what CI runs, half a minute
    python3 dev.py bench --only interrupts --only growth   these parts
    python3 dev.py bench --docs --update-baseline          everything, and keep it
    python3 dev.py bench --docs --interpreter 3.14         on this one, a column in the goals

The parts:

{parts}

How to read it. Compare figures of one run only: the machine is part of each. So what is compared
with another run are ratios: of two things of the same run. They are kept, as they
were on a quiet machine, in {baseline}; --check fails where one is worse by more
than it may be, which is said with each, or where a goal is missed that no machine is an excuse
for. Measure on a quiet machine: a neighbour that computes doubles most times.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tools import ROOT, ending

from . import baseline, page
from .report import SKIPPED, Part
from .results import PARTS, Results, is_missing


def _run(options: argparse.Namespace) -> int:
    if options.redraw:
        page.redraw()
        return 0
    results = Results.new()
    print(f"CPython {results.python}, {results.machine}, {results.processor}\n", flush=True)
    chosen: list[Part] = [
        part
        for part in PARTS.values()
        if (part.name in options.only or not options.only) and (part.is_quick or not options.quick)
    ]
    for number, part in enumerate(chosen, 1):
        began = time.monotonic()

        def tell(what: str, prefix: str = f"[{number}/{len(chosen)}] {part.name}") -> None:
            print(f"{prefix}: {what}", file=sys.stderr, flush=True)

        results.parts[part.name] = found = part.measure(quick=options.quick, tell=tell)
        tell(f"done in {time.monotonic() - began:.0f} s")
        if not is_missing(found):
            for table in part.tables(found):
                print(*table.lines(), sep="\n")
        for reason in found[SKIPPED]:
            print(f"SKIPPED: {reason}\n", flush=True)
    return _conclude(results, options)


def _conclude(results: Results, options: argparse.Namespace) -> int:
    goals = list(results.goals())
    compared = list(baseline.compare(results.ratios(), baseline.read()))
    print("\n".join(map(str, [*goals, "", *compared])))
    if options.json is not None:
        options.json.write_text(results.to_json(), encoding="utf-8")
    if options.update_baseline:
        baseline.update(results.ratios())
    if options.docs:
        if missing := page.missing(results):
            print(f"{page.PAGE.name} is left as it was: no figures of {', '.join(missing)}")
            return 1
        page.keep(results)
        page.redraw()
    failed = any(g.is_broken for g in goals) or any(c.is_worse for c in compared)
    return 1 if options.check and failed else 0


# ---- the command line ----------------------------------------------------------------------------


def _parse() -> argparse.Namespace:
    parts = "\n".join(
        f"    {part.name:<12}{part.title}{'' if part.is_quick else ' (not with --quick)'}"
        for part in PARTS.values()
    )
    file = baseline.FILE.relative_to(ROOT)
    parser = ending.parser(
        "python3 dev.py bench",
        (__doc__ or "").format(parts=parts, baseline=file),
        "Exit status: 0; 1 with --check if something is worse, or with --docs if a part has no "
        "figures;\n2 for a wrong call; 130 after Ctrl-C.",
    )
    add = parser.add_argument
    about = "this part only; may be given again"
    add("--only", action="append", default=[], metavar="PART", choices=list(PARTS), help=about)
    add("--quick", action="store_true", help="in short, and without the vendors' libraries")
    add("--check", action="store_true", help="exit 1 if a ratio is worse than the baseline's")
    add("--update-baseline", action="store_true", help=f"keep this run's ratios in {file}")
    add("--json", type=Path, metavar="FILE", help="write every figure there, too")
    add("--docs", action="store_true", help=f"write the tables and plots of {page.PAGE.name}")
    add("--redraw", action="store_true", help="measure nothing; --docs with the figures kept there")
    options = parser.parse_args()
    if options.docs and (options.only or options.quick):
        parser.error("--docs needs every figure of one run: leave --only and --quick out")
    return options


if __name__ == "__main__":
    ending.run(lambda: _run(_parse()), "interrupted; what was under way has been ended")
