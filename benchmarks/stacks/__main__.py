"""Real clients on real servers: who is answered in time, and does the next call work?

    python3 dev.py stacks --install        # install missing servers first (root, Debian)
    python3 dev.py stacks                  # all of them, as a table (half an hour)
    python3 dev.py stacks --docs           # and into docs/explanation/stacks.md
    python3 dev.py stacks --only requests --way kept --do busy --do busy

Each case has a client that is made before the call; a call that hangs, or quick ones in a row while
another thread computes; and calls that must work afterwards. It runs under the real runtime, in
several ways: by itself, with a supervisor, with the SIGALRM recipe, and with no process replaced.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from tools import ROOT

from .cases import FAMILIES, Case, load
from .outcomes import WAYS, Outcome, run
from .servers import available, install, started

PAGE: Final = ROOT / "docs" / "explanation" / "stacks.md"
RESULTS: Final = ROOT / "build" / "stacks.json"
BEGIN, END = "<!-- tables: made by dev.py stacks -->", "<!-- end of tables -->"
NAMES: Final = {
    "alone": "watchdog",
    "supervise": "supervised",
    "alarm": "recipe",
    "kept": "kept",
    "hang": "next",
    "busy": "busy, next",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py stacks", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--only", action="append", default=[], help="a case, or a family")
    parser.add_argument("--way", action="append", default=[], choices=WAYS)
    parser.add_argument("--do", action="append", default=[], choices=("hang", "busy"))
    parser.add_argument("--jobs", type=int, default=4, help="functions beside each other")
    parser.add_argument("--docs", action="store_true", help="write the tables into the page")
    parser.add_argument("--install", action="store_true", help="install missing servers (root)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers are to end with it
    if options.install:
        install()
    do, only = options.do or ["hang", "busy"], {*options.only}
    cases = {name: case for name, case in load().items() if not only or {name, case.family} & only}
    for way in options.way or WAYS[:-1]:
        _run_all(cases, way, do, options.jobs)
    tables = "\n".join(_tables(cases, options.way or WAYS[:-1], do))
    print(tables)
    if options.docs:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{tables.lstrip()}\n\n{END}{after}", encoding="utf-8")
    return 0


def _run_all(cases: dict[str, Case], way: str, do: list[str], jobs: int) -> None:
    wanted = {case.server for case in cases.values() if case.server is not None}
    with started(wanted & available()) as ports, ThreadPoolExecutor(jobs) as pool:
        running = {
            name: pool.submit(run, name, case.server, way, ports, *do)
            for name, case in cases.items()
        }
        try:
            for name, future in running.items():
                _take(name, way, do, future)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)  # those that run end soon
            raise


def _take(name: str, way: str, do: list[str], future: Future[list[Outcome]]) -> None:
    try:
        outcomes = future.result()
    except (RuntimeError, KeyError) as error:
        print(f"LEFT OUT: {name}, {way}: {error}", file=sys.stderr, flush=True)
        return
    for action, outcome in zip(do, outcomes, strict=True):
        print(f"{name}, {way}, {action}: {outcome}", file=sys.stderr, flush=True)
        _keep(name, way, action, outcome)


def _keep(name: str, way: str, action: str, outcome: Outcome) -> None:
    """Add it to those of earlier runs: the ways may be run one at a time."""
    found = _kept()
    found.setdefault(name, {}).setdefault(way, {})[action] = outcome
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def _tables(cases: dict[str, Case], ways: Sequence[str], do: list[str]) -> Iterator[str]:
    """A table for each family, of what is known of its cases."""
    cells, found = ["client", *(NAMES[cell] for way in ways for cell in (way, *do))], _kept()
    for family in FAMILIES:
        rows = [
            [name, *(cell for way in ways for cell in _cells(found[name].get(way, {}), do))]
            for name, case in cases.items()
            if case.family == family and name in found
        ]
        if rows:
            yield from ("", f"### {_title(family)}", "", _row(cells), f"|{'---|' * len(cells)}")
            yield from map(_row, rows)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _title(family: str) -> str:
    said = sys.modules[f"{load.__module__}.{family}"].__doc__ or family
    return said.partition(":")[0].partition("\n")[0].rstrip(".")


def _cells(told: dict[str, Any], do: list[str]) -> Iterator[str]:
    outcomes = {action: Outcome(*told[action]) for action in do if action in told}
    first = next(iter(outcomes.values()), None)
    answer = ""  # not run
    if first is not None:
        answer = "**killed**" if first.late_ms is None else f"{max(first.late_ms, 0)} ms"
    sent = max((each.sent for each in outcomes.values()), default=0)
    yield answer if sent <= 1 else f"{answer}, **sent {sent} times**"
    for each in map(outcomes.get, do):
        if each is None:
            yield ""
        elif each.said:
            yield "**fails**"
        elif each.late_ms is None:
            yield "killed"
        else:
            yield "anew" if each.is_anew else "works"


if __name__ == "__main__":
    sys.exit(main())
