"""What the package adds to a cold start: whole processes, with and without it, by turns."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

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
    """One process, from start to end."""

    seconds: float
    cpu: float
    rss: int
    powertools: bool
    modules: int


class Start(NamedTuple):
    """What the package adds; medians of the differences within each pair."""

    pairs: int
    bare_ms: float
    added_ms: float
    added_cpu_ms: float
    bare_mb: float
    added_mb: float
    added_modules: int
    loads_powertools: bool


def measure(pairs: int) -> Start:
    """Start both kinds of process in turn."""
    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        Path(folder, "tiny_app.py").write_text(_APP)
        for script in (_BARE, _WATCHED):
            _run(script, folder)  # compiles what has not been compiled
        both = [(_run(_BARE, folder), _run(_WATCHED, folder)) for _ in range(pairs)]

    def added(of: str) -> float:
        differences: list[float] = [getattr(w, of) - getattr(b, of) for b, w in both]
        return statistics.median(differences)

    return Start(
        pairs=pairs,
        bare_ms=statistics.median(b.seconds for b, _ in both) * 1000,
        added_ms=added("seconds") * 1000,
        added_cpu_ms=added("cpu") * 1000,
        bare_mb=statistics.median(b.rss for b, _ in both) / 1e6,
        added_mb=added("rss") / 1e6,
        added_modules=round(added("modules")),
        loads_powertools=any(w.powertools for _, w in both),
    )


def _run(script: str, folder: str) -> Process:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("WATCHDOG_LAMBDA_")}
    environ |= {
        "WATCHDOG_LAMBDA_HANDLER": "tiny_app.handler",
        "PYTHONPATH": os.pathsep.join([folder, str(ROOT), environ.get("PYTHONPATH", "")]),
    }
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began, before = perf_counter(), _cpu_of_children()
    done = subprocess.run(
        [sys.executable, "-c", script + _TELL],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, cpu = perf_counter() - began, _cpu_of_children() - before
    return Process(seconds, cpu, **json.loads(done.stdout))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
