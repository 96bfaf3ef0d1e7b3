"""What watching a handler costs, beside other ways to do it, all in one run.

    python -m benchmarks
    python -m benchmarks --quick --check --json result.json

Calls: a handler that does nothing, watched by each of them in turn, many times over. Counts: system
calls and wake-ups for each call. Start: whole processes that load AWS's runtime and a handler, with
and without the package, by turns. Compare figures of one run only: the machine is part of each.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import calls, counts, start
from .contenders import contenders, runtime_is_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .contenders import Contender

_MOST_ABOVE_BARE_NS = 1500
_MOST_START_MS = 15
_MOST_START_SHARE = 0.4  # of the runtime's own time: 15 ms of the 37 ms that it takes here
_MOST_START_MB = 3
_WAKE_UP_CALLS = 100_000


class Target(NamedTuple):
    """What a figure must not exceed."""

    what: str
    figure: float
    most: float
    unit: str
    is_binding: bool
    """For --check. Times alone are not: on a slow machine they say more about that."""

    @property
    def is_met(self) -> bool:
        """Whether it does not."""
        return self.figure <= self.most

    def __str__(self) -> str:
        remark = "" if self.is_binding else "  (this machine's time: not for --check)"
        verdict = "met   " if self.is_met else "MISSED"
        figures = f"{self.figure:,.3g} {self.unit}, at most {self.most:,g}"
        return f"{verdict}  {self.what}: {figures}{remark}"


def main() -> int:
    """Run the command; return its exit status."""
    options = _parse()
    everybody, skipped = contenders()
    result: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    targets: list[Target] = []
    print(f"CPython {result['python']} on {result['machine']}\n", flush=True)

    # Counts go first: they tell the watchdog's thread by its being new.
    rows = _counts(everybody, result, skipped, targets)
    _calls(everybody, options.rounds, result, targets)
    _print_table("for each call", ("", "waits", "system calls", "which"), rows)
    if not runtime_is_here():
        skipped.append("SKIPPED: start: awslambdaric is not installed")
    else:
        _start(options.pairs, result, targets)

    for line in (*targets, *skipped):
        print(line)
    result["targets"] = [{**target._asdict(), "met": target.is_met} for target in targets]
    result["skipped"] = skipped
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    missed = [target for target in targets if target.is_binding and not target.is_met]
    return 1 if options.check and missed else 0


def _calls(
    everybody: Sequence[Contender], rounds: int, result: dict[str, Any], targets: list[Target]
) -> None:
    times = calls.measure(everybody, rounds)
    result["calls"] = [time._asdict() for time in times]
    _print_table(
        f"one call of a handler that does nothing, ns ({rounds} rounds)",
        ("", "median", "above bare", "times bare", "p99", "calls"),
        [
            (
                t.name,
                f"{t.median:,.0f}",
                f"{t.above_bare:,.0f}",
                f"{t.ratio:,.1f}",
                f"{t.p99:,.0f}",
                f"{t.calls:,}",
            )
            for t in times
        ],
    )
    above = {time.name: time.above_bare for time in times}
    recipe = above["SIGALRM recipe"]
    for name in (contender.name for contender in everybody if contender.is_ours):
        targets += [
            Target(
                f"{name}: overhead beside the SIGALRM recipe's",
                above[name] / recipe,
                1,
                "times",
                is_binding=True,
            ),
            Target(f"{name}: above bare", above[name], _MOST_ABOVE_BARE_NS, "ns", is_binding=False),
        ]


def _counts(
    everybody: Sequence[Contender],
    result: dict[str, Any],
    skipped: list[str],
    targets: list[Target],
) -> list[tuple[str, ...]]:
    """Count what each call costs; the rows of the table, for when the times have been told."""
    ours = next(contender for contender in everybody if contender.is_ours)
    woken = counts.wake_ups(ours, _WAKE_UP_CALLS)
    if woken is None:
        skipped.append("SKIPPED: wake-ups of the watchdog's thread: no /proc")
    else:
        result["wake_ups"] = {"calls": _WAKE_UP_CALLS, "wake_ups": woken}
        what = f"wake-ups of the watchdog's thread in {_WAKE_UP_CALLS:,} calls"
        targets.append(Target(what, woken, 1, "times", is_binding=True))
    reason = counts.why_not_traced()
    if reason is not None:
        skipped.append(f"SKIPPED: system calls: {reason}")
    rows: list[tuple[str, ...]] = []
    result["counts"] = []
    for contender in everybody:
        waits = counts.waits(contender, _WAKE_UP_CALLS if contender.is_ours else 2_000)
        traced = counts.system_calls(contender.name) if reason is None else None
        result["counts"].append({**waits._asdict(), "system_calls": traced})
        rows.append(
            (
                contender.name,
                f"{waits.switches / waits.calls:.3f}",
                "-" if traced is None else f"{sum(traced.values()):z.2f}",
                "" if traced is None else _most(traced),
            )
        )
        if traced is not None and contender.is_ours:
            # Not 0: memory that is asked for now and then (brk, mmap) can remain in the difference.
            what = f"{contender.name}: system calls for each call"
            each = abs(sum(traced.values()))
            targets.append(Target(what, each, 0.01, "times", is_binding=True))
    return rows


def _most(traced: dict[str, float]) -> str:
    largest = sorted(traced.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{name} {each:.2f}" for name, each in largest if each >= 0.01)


def _start(pairs: int, result: dict[str, Any], targets: list[Target]) -> None:
    found = start.measure(pairs)
    result["start"] = found._asdict()
    _print_table(
        f"a process that loads AWS's runtime and a handler ({pairs} pairs)",
        ("", "without", "the package adds"),
        [
            ("wall time, ms", f"{found.bare_ms:.1f}", f"{found.added_ms:.1f}"),
            ("CPU time, ms", "", f"{found.added_cpu_ms:.1f}"),
            ("resident memory, MB", f"{found.bare_mb:.1f}", f"{found.added_mb:.2f}"),
            ("modules", "", f"{found.added_modules}"),
        ],
    )
    powertools = float(found.loads_powertools)
    targets += [
        Target("start: time added", found.added_ms, _MOST_START_MS, "ms", is_binding=False),
        Target(
            "start: time added beside the runtime's own",
            found.added_ms / found.bare_ms,
            _MOST_START_SHARE,
            "times",
            is_binding=True,
        ),
        Target("start: memory added", found.added_mb, _MOST_START_MB, "MB", is_binding=True),
        Target("start: Powertools is loaded", powertools, 0, "times", is_binding=True),
    ]


def _print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    print(title)
    for line in lines:
        # Names to the left, figures to the right, and the remarks of a last column to the left.
        cells = (
            cell.ljust(width) if not _is_figure(cell) else cell.rjust(width)
            for cell, width in zip(line, widths, strict=True)
        )
        print("  " + "  ".join(cells).rstrip())
    print(flush=True)


def _is_figure(cell: str) -> bool:
    return cell[:1].isdecimal() or cell[:1] == "-"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="Exit status: 0, or with --check 1 if a target was missed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=400, help="of calls of each of them (default: %(default)s)"
    )
    parser.add_argument(
        "--pairs", type=int, default=25, help="of whole processes (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="100 rounds and 15 pairs")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.pairs = 100, 15
    return options


if __name__ == "__main__":
    sys.exit(main())
