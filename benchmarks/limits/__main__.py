"""Which blocking calls a timeout can interrupt, how fast, and by what means.

    python3 dev.py limits
    python3 dev.py limits --interpreter 3.11 --interpreter 3.12 --interpreter 3.13 --docs
    python3 dev.py limits --only lock --only regex

Each call is made in a process of its own, and ended in three ways: by this package; by the SIGALRM
recipe, a signal's handler that raises; and by plain injection, PyThreadState_SetAsyncExc from a
thread. The figure is the time in milliseconds from the instant at which the interrupt was due until
the handler saw it; `no` if it has not seen it within two seconds. Then the process is ended. A call
that cannot be interrupted is not tried again.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.children import Broken
from benchmarks.surroundings import machine
from tools import ending
from tools.ending import look_at

from . import cells, page
from .calls import CALLS
from .registry import Call
from .results import TITLES, Cell, Results
from .ways import GRACE_PERIOD

_AT_A_TIME: Final = 2  # more would measure each other


def _run(options: argparse.Namespace) -> int:
    if options.redraw:
        page.redraw()
        return 0
    chosen = [
        call
        for call in CALLS.values()
        if (call.name in options.only or not options.only) and (call.is_quick or not options.quick)
    ]
    results = Results(machine(), cells.WINDOW, GRACE_PERIOD, options.runs, {})
    broken: list[str] = []
    for version, python in options.interpreters.items():
        print(f"CPython {version}, {results.machine}; ms, median of up to {results.runs}")
        results.cells[version] = _measure(python, chosen, options.runs, broken)
        if options.json is not None:
            options.json.write_text(results.to_json())
    if options.docs and not broken:
        # Those of other interpreters stay: a run of all of them takes an hour.
        results = results._replace(cells={**page.read().cells, **results.cells})
        page.FIGURES.write_text(results.to_json(), encoding="utf-8")
        page.redraw()
    troubles = [f"WORSE than SIGALRM: {line}" for line in results.worse()]
    troubles += [f"BROKEN: {line}" for line in broken]
    for line in troubles:
        print(line)
    return 1 if troubles else 0


def _measure(
    python: str, chosen: Sequence[Call], runs: int, broken: list[str]
) -> dict[str, dict[str, Cell]]:
    """Every chosen call in every way on one interpreter; told row by row.

    What is no call to be measured has no row, and `broken` says why.
    """
    width = max(len(call.name) for call in chosen)
    print(" " * width, *(title.rjust(16) for title in TITLES.values()), flush=True)

    is_over = threading.Event()

    def several(name: str, way: str) -> Iterator[cells.Run]:
        for _ in range(runs):
            yield (run := cells.run(python, name, way))
            if run.ms is None or is_over.is_set():
                return  # what is not interrupted costs the whole window, and would again

    def measure(call: Call) -> dict[str, Cell]:
        try:
            return {way: Cell.of(several(call.name, way)) for way in TITLES}
        except Broken as error:
            broken.append(str(error))
            return {}

    rows: dict[str, dict[str, Cell]] = {}
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        try:
            for call, row in zip(chosen, pool.map(measure, chosen), strict=True):
                if not row:
                    print(f"{call.name.ljust(width)}  BROKEN", flush=True)
                    continue
                rows[call.name] = row
                figures = (str(cell).rjust(16) for cell in row.values())
                print(call.name.ljust(width), *figures, flush=True)
        finally:
            # If this ends early, leaving the pool waits for the runs that are under way.
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return rows


# ---- the command line ----------------------------------------------------------------------------


def _parse() -> argparse.Namespace:
    parser = ending.parser(
        "python3 dev.py limits",
        __doc__,
        "Exit status: 0; 1 if the watchdog did not reach what SIGALRM reached, or a call did not\n"
        "block; 2 for a wrong call; 130 after Ctrl-C.",
    )
    add = parser.add_argument
    about = (
        "run with this one: a version such as 3.12, whose environment dev.py makes, or a path; "
        "may be given again for more (default: this one)"
    )
    add("--interpreter", action="append", metavar="PYTHON", help=about)
    about = "this call only; may be given again"
    add("--only", action="append", default=[], metavar="NAME", choices=list(CALLS), help=about)
    add("--runs", type=int, metavar="N", help="of what can be interrupted (default: 3)")
    add("--quick", action="store_true", help="a dozen calls that stand for the rest, once each")
    add("--json", type=Path, metavar="FILE", help="write everything there, too")
    add("--docs", action="store_true", help=f"write the table and the plot of {page.PAGE.name}")
    add("--redraw", action="store_true", help="measure nothing; --docs with the figures kept there")
    options = parser.parse_args()
    if options.docs and (options.only or options.quick):
        parser.error("--docs needs every call: leave --only and --quick out")
    if options.runs is None:
        options.runs = 1 if options.quick else 3
    if options.runs < 1:
        parser.error(f"--runs {options.runs}: 1 or more")
    options.interpreters = {}
    for given in options.interpreter or [sys.executable]:
        path, version, reason = look_at(given)
        if reason:
            parser.error(f"--interpreter {given}: {reason}")
        options.interpreters[version] = str(Path(path).absolute())
    return options


if __name__ == "__main__":
    ending.run(lambda: _run(_parse()), "interrupted; what was under way has been ended")
