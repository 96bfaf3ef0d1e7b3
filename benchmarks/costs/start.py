"""What the package adds to a cold start: whole processes, with and without it, in turns."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.quota import SHARE, Quota, quota
from benchmarks.surroundings import ROOT, environment

from .report import SKIPPED, Goal, Part, Ratio, Table

if TYPE_CHECKING:
    from .report import Found, Tell

_MOST_MS: Final = 8
_MOST_MB: Final = 1.5
_LIMIT_MB: Final = 3
_MOST_SHARE: Final = 0.4  # of the runtime's own time
_LIMIT_SHARE: Final = 0.6  # wall time, so neighbours count; the CPU time's ratio is the narrow one

_APP = "def handler(event, context):\n    return event\n"

# Both load AWS's runtime and the handler. Memory is read before anything is printed.
_BARE = """
from awslambdaric import bootstrap
bootstrap._get_handler("tiny_app.handler")
"""
_WATCHED = """
from awslambdaric import bootstrap
import watchdog_lambda.entrypoint
"""
_TELL = """
with open("/proc/self/statm") as statm:
    pages = int(statm.read().split()[1])
import json, resource, sys
print(json.dumps({
    "rss": pages * resource.getpagesize(),
    "powertools": "aws_lambda_powertools" in sys.modules,
    "modules": len(sys.modules),
}))
"""


class Process(NamedTuple):
    seconds: float
    cpu: float
    rss: int
    powertools: bool
    modules: int


_NO_QUOTA: Final = Quota("", 1.0)


def _measure(*, quick: bool, tell: Tell) -> Found:
    skipped: list[str] = []
    if find_spec("awslambdaric") is None:
        return {SKIPPED: [*skipped, "awslambdaric is not installed"]}
    found: Found = {SKIPPED: skipped}
    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        Path(folder, "tiny_app.py").write_text(_APP)
        for script in (_BARE, _WATCHED):
            _run(script, folder, _NO_QUOTA)  # compiles what has not been compiled
        pairs = 15 if quick else 40
        tell(f"{pairs} pairs of processes")
        found["free"] = _pairs(pairs, folder, _NO_QUOTA)
        if not quick:
            with quota() as held:
                pairs = 15
                tell(f"{pairs} pairs with {SHARE:.2%} of a core ({held.means})")
                found["quota"] = {"means": held.means, **_pairs(pairs, folder, held)}
    return found


def _pairs(pairs: int, folder: str, held: Quota) -> dict[str, Any]:
    """Both kinds of process in turn; medians of the differences within each pair."""
    both = [(_run(_BARE, folder, held), _run(_WATCHED, folder, held)) for _ in range(pairs)]

    def added(of: str) -> float:
        differences: list[float] = [getattr(w, of) - getattr(b, of) for b, w in both]
        return statistics.median(differences)

    return {
        "pairs": pairs,
        "bare_ms": statistics.median(b.seconds for b, _ in both) * 1000,
        "added_ms": added("seconds") * 1000,
        "bare_cpu_ms": statistics.median(b.cpu for b, _ in both) * 1000,
        "added_cpu_ms": added("cpu") * 1000,
        "bare_mb": statistics.median(b.rss for b, _ in both) / 1e6,
        "added_mb": added("rss") / 1e6,
        "added_modules": round(added("modules")),
        "loads_powertools": any(w.powertools for _, w in both),
    }


def _run(script: str, folder: str, held: Quota) -> Process:
    environ = environment(
        WATCHDOG_LAMBDA_HANDLER="tiny_app.handler", PYTHONPATH=os.pathsep.join([folder, str(ROOT)])
    )
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began, before = perf_counter(), _cpu_of_children()
    with (
        subprocess.Popen(
            [*held.launch, sys.executable, "-c", script + _TELL],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        held.held(process.pid, wanted=held.share < 1),
    ):
        told, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    seconds, cpu = perf_counter() - began, _cpu_of_children() - before
    return Process(seconds, cpu, **json.loads(told))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tables(found: Found) -> list[Table]:
    tables = []
    for name, title in (("free", "a whole core"), ("quota", f"{SHARE:.2%} of a core")):
        if name not in found:
            continue
        row = found[name]
        means = f", by {row['means']}" if "means" in row else ""
        tables.append(
            Table(
                f"A process that loads AWS's runtime and a handler, with {title}{means} "
                f"({row['pairs']} pairs)",
                ("", "without", "the package adds"),
                [
                    ("wall time, ms", f"{row['bare_ms']:,.1f}", f"{row['added_ms']:,.1f}"),
                    ("CPU time, ms", f"{row['bare_cpu_ms']:,.1f}", f"{row['added_cpu_ms']:,.1f}"),
                    ("resident memory, MB", f"{row['bare_mb']:.1f}", f"{row['added_mb']:.2f}"),
                    ("modules", "-", f"{row['added_modules']}"),
                ],
            )
        )
    return tables


def _goals(found: Found) -> list[Goal]:
    goals = []
    if "free" in found:
        free = found["free"]
        goals += [
            Goal("start: wall time added", free["added_ms"], _MOST_MS, "ms", reason=_BUSY),
            Goal("start: memory added", free["added_mb"], _MOST_MB, "MB", _LIMIT_MB, reason=_LARGE),
            Goal(
                "start: wall time added beside the runtime's own",
                free["added_ms"] / free["bare_ms"],
                _MOST_SHARE,
                "times",
                _LIMIT_SHARE,
                reason=_BUSY,
            ),
            Goal(
                "start: Powertools is loaded",
                float(free["loads_powertools"]),
                0,
                "times",
                0,
                reason="Something that a start imports has imported it.",
            ),
        ]
    if "quota" in found:
        slow = found["quota"]
        what = "start under the quota"
        goals += [
            Goal(f"{what}: wall time added", slow["added_ms"], _MOST_MS, "ms", reason=_QUOTA),
            Goal(f"{what}: CPU time added", slow["added_cpu_ms"], _MOST_MS, "ms", reason=_BUSY),
            Goal(f"{what}: memory added", slow["added_mb"], _MOST_MB, "MB", reason=_LARGE),
        ]
    return goals


_BUSY: Final = (
    "It is the time that this machine takes to read and run some forty small modules, so it "
    "depends on the speed of the processor: on a slow or busy one, the runtime's own start in the "
    "same table takes longer too. To reduce it, there would have to be fewer modules, or a part in "
    "C."
)
_LARGE: Final = (
    "It is the code of those modules; fewer of them would have to be loaded at the start."
)
_QUOTA: Final = (
    "The added CPU time is the same as without a quota, and "
    f"{SHARE:.2%} of a core takes {1 / SHARE:.0f} times as long for it: a wall time of 8 ms would "
    "be 0.6 ms of CPU time, which is less than the start of one thread and the import of two "
    "modules. It could be met only by doing nothing at the start, or where the platform lends a "
    "start more than its share."
)


def _ratios(found: Found) -> list[Ratio]:
    if "free" not in found:
        return []
    free = found["free"]
    return [
        Ratio(
            "start: CPU time added, beside the runtime's own",
            free["added_cpu_ms"] / free["bare_cpu_ms"],
            1.6,
            "both are processes of some 50 ms, by turns; the kernel counts their CPU time coarsely",
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
    about="Whole processes are measured from `exec` to their end, in turns: one loads awslambdaric "
    "and a handler, the other one the same with our entrypoint between them. *Added* is the median "
    f"of the differences within the pairs. The second table has {SHARE:.2%} of a core, in periods "
    "of 20 ms, which is what Lambda gives a function of 128 MB.",
    measure=_measure,
    tables=_tables,
    goals=_goals,
    ratios=_ratios,
)
