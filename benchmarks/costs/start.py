"""What the package adds to a cold start: whole processes, with and without it, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

from benchmarks.quota import NO_QUOTA, SHARE, quota
from tools import ROOT, environment

from .report import SKIPPED, Found, Goal, Part, Ratio, Table, Tell

_MOST_MS: Final = 6
_MOST_MB: Final = 1
_MOST_FIRST_MS: Final = 0.3

_APP = "def handler(event, context):\n    return event\n"

# Both load AWS's runtime and the handler.
_BARE = """
from awslambdaric import bootstrap
handler = bootstrap._get_handler("tiny_app.handler")
"""
_WATCHED = """
from awslambdaric import bootstrap
from watchdog_lambda.entrypoint import handler
"""
# The start ends here: whatever is imported or called from here on is measured by itself. The
# CPU time of a call includes what it leaves to the watchdog's thread.
_TELL = """
from time import perf_counter, process_time, sleep, time
ended, cpu = perf_counter(), process_time()
with open("/proc/self/statm") as statm:
    pages = int(statm.read().split()[1])
import sys
modules = len(sys.modules)
import json, resource

def call():
    given = bootstrap.LambdaContext("id", None, None, int(time() * 1000) + 900_000)
    sleep(0.02)
    before = process_time()
    handler(None, given)
    sleep(0.02)
    return process_time() - before

first, second = call(), call()
print(json.dumps({
    "ended": ended,
    "cpu": cpu,
    "rss": pages * resource.getpagesize(),
    "first": first - second,
    "powertools": "aws_lambda_powertools" in sys.modules,
    "modules": modules,
}))
"""


class Process(NamedTuple):
    seconds: float
    cpu: float
    rss: int
    first: float
    """The CPU time of the first call above the second one's."""
    powertools: bool
    modules: int


def _measure(*, quick: bool, tell: Tell) -> Found:
    found: Found = {SKIPPED: []}
    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        Path(folder, "tiny_app.py").write_text(_APP)
        for script in (_BARE, _WATCHED):
            _run(script, folder)  # compiles what has not been compiled
        pairs = 15 if quick else 40
        tell(f"{pairs} pairs of processes")
        found["free"] = _pairs(pairs, folder)
        if not quick:
            with quota() as held:
                if held is None:
                    found[SKIPPED].append(NO_QUOTA)
                    return found
                tell(f"15 pairs with {SHARE:.2%} of a core ({held.means})")
                found["quota"] = {"means": held.means, **_pairs(15, folder, *held.launch)}
    return found


def _pairs(pairs: int, folder: str, *launch: str) -> dict[str, Any]:
    """Both kinds of process in turn; medians of the differences within each pair."""
    both = [(_run(_BARE, folder, *launch), _run(_WATCHED, folder, *launch)) for _ in range(pairs)]
    bare, watched = zip(*both, strict=True)

    def median(of: str, processes: tuple[Process, ...]) -> float:
        figures: list[float] = [getattr(process, of) for process in processes]
        return statistics.median(figures)

    def added(of: str) -> float:
        differences: list[float] = [getattr(w, of) - getattr(b, of) for b, w in both]
        return statistics.median(differences)

    return {
        "pairs": pairs,
        "bare_ms": median("seconds", bare) * 1000,
        "added_ms": added("seconds") * 1000,
        "bare_cpu_ms": median("cpu", bare) * 1000,
        "added_cpu_ms": added("cpu") * 1000,
        "bare_mb": median("rss", bare) / 1e6,
        "added_mb": added("rss") / 1e6,
        "bare_first_ms": median("first", bare) * 1000,
        "first_ms": median("first", watched) * 1000,
        "added_modules": round(added("modules")),
        "loads_powertools": any(process.powertools for process in watched),
    }


def _run(script: str, folder: str, *launch: str) -> Process:
    environ = environment(
        WATCHDOG_LAMBDA_HANDLER="tiny_app.handler",
        PYTHONPATH=os.pathsep.join([folder, str(ROOT)]),
        # What tells the package that it is in Lambda, and has it start its thread; nobody is asked.
        AWS_LAMBDA_RUNTIME_API="127.0.0.1:1",
    )
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began = perf_counter()  # the clock is the same in all processes
    command = [*launch, sys.executable, "-c", script + _TELL]
    told = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True).stdout
    figures = json.loads(told)
    return Process(seconds=figures.pop("ended") - began, **figures)


def _tables(found: Found) -> list[Table]:
    tables = []
    for name, title in (("free", "a whole core"), ("quota", f"{SHARE:.2%} of a core")):
        if name not in found:
            continue
        row = found[name]
        means = f", by {row['means']}" if "means" in row else ""
        figures = [
            ("wall time, ms", f"{row['bare_ms']:,.1f}", f"{row['added_ms']:,.1f}"),
            ("CPU time, ms", f"{row['bare_cpu_ms']:,.1f}", f"{row['added_cpu_ms']:,.1f}"),
            ("resident memory, MB", f"{row['bare_mb']:.1f}", f"{row['added_mb']:.2f}"),
            ("modules", "-", f"{row['added_modules']}"),
            (
                "CPU time of the first call above the second, ms",
                f"{row['bare_first_ms']:z.2f}",
                f"{row['first_ms'] - row['bare_first_ms']:z.2f}",
            ),
        ]
        what = f"A process that loads AWS's runtime and a handler, with {title}{means}"
        head = ("", "without", "the package adds")
        tables.append(Table(f"{what} ({row['pairs']} pairs)", head, figures))
    return tables


def _goals(found: Found) -> list[Goal]:
    free = found["free"]
    return [
        Goal("start: wall time added", free["added_ms"], _MOST_MS, "ms", reason=_MODULES),
        Goal("start: memory added", free["added_mb"], _MOST_MB, "MB", reason=_LARGE),
        Goal(
            "start: CPU time of the first call above the second",
            free["first_ms"],
            _MOST_FIRST_MS,
            "ms",
            reason=_FRESH,
        ),
        Goal("start: Powertools is loaded", free["loads_powertools"], 0, "times", 0, _IMPORTED),
    ]


_MODULES: Final = (
    "It is mostly the import of the package's modules, whose number is in the table below: all "
    "that a timeout needs is loaded at the init, because nothing must be imported once the time "
    "has run out. The same code in one file would take about a third less; to meet the goal, less "
    "code would have to be loaded, or a part be written in C. On a slow or busy processor the "
    "runtime's own start in the same table takes longer too."
)
_LARGE: Final = (
    "It is the code of those modules and the stack of the watchdog's thread; less code would have "
    "to be loaded at the init."
)

_FRESH: Final = (
    "The watchdog's thread wakes, because it is told of a deadline for the first time, and sets "
    "the kernel timers, which must not wait. The rest is code and memory that nothing has used "
    "before; what of it could be done at the init is done there."
)
_IMPORTED: Final = "Something that a start imports has imported it."


def _ratios(found: Found) -> list[Ratio]:
    free = found["free"]
    return [
        Ratio(
            "start: CPU time added, beside the runtime's own",
            free["added_cpu_ms"] / free["bare_cpu_ms"],
            1.6,
            "both are processes of some 50 ms, by turns",
        ),
        Ratio(
            "start: memory added, MB",
            free["added_mb"],
            1.25,
            "pages are counted in steps, and the allocator's arenas fall differently",
        ),
        Ratio(
            "start: modules added",
            free["added_modules"],
            1.1,
            "this is a count, which varies only with the Python version",
        ),
    ]


PART: Final = Part(
    name="start",
    title="What a cold start pays",
    about="Processes are measured from `exec` until the handler can be called, in turns: one loads "
    "awslambdaric and a handler, the other one the same with our entrypoint between them, which "
    "starts its thread as in Lambda. *Added* is the median of the differences within the pairs. "
    "The first call and the second include what they leave to other threads. The second table has "
    f"{SHARE:.2%} of a core, in periods of 20 ms, which is what Lambda gives a function of 128 MB.",
    measure=_measure,
    tables=_tables,
    goals=_goals,
    ratios=_ratios,
)
