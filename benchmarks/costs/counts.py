"""What a call costs the machine, as counts: system calls and context switches.

Times depend on the machine and on its other tenants; these do not.

``python -m benchmarks.child costs.counts NAME CALLS`` makes so many calls, and tells how often a
thread was put to sleep meanwhile, and the watchdog's thread woke up.
"""

from __future__ import annotations

import math
import re
import resource
import shutil
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from benchmarks.child import Channel
from benchmarks.children import Child
from watchdog_lambda import watch
from watchdog_lambda._process import process_watchdog

from .contenders import CONTENDERS
from .registry import OURS, RECIPE, Handler, context, interpreters, noop
from .report import SKIPPED, Found, Goal, Part, Table, Tell

_TRACED: Final = 1000  # calls; strace slows each system call down some fifty times
_CALLS: Final = 2000
_WAKE_UP_CALLS: Final = 100_000
_CONTEXTS: Final = 1000
_BOUND: Final = 10.0  # seconds
_TASKS: Final = Path("/proc/self/task")
_MOST_SYSTEM_CALLS: Final = 0.01
"""Not 0: memory that is asked for now and then (brk, mmap) can remain in the difference."""


def _measure(*, quick: bool, tell: Tell) -> Found:
    skipped: list[str] = []
    found: Found = {SKIPPED: skipped}
    reason = why_not_traced()
    if reason is not None:
        skipped.append(f"system calls: {reason}")
    pythons = interpreters(("bare", *OURS, RECIPE) if quick else CONTENDERS, skipped)

    def count(name: str) -> dict[str, Any]:
        tell(f"{name}: system calls and switches")
        calls = _WAKE_UP_CALLS if name in OURS else _CALLS
        with Child("costs.counts", name, calls, python=pythons[name]) as child:
            told = child.hear()
        traced = _system_calls(name, pythons[name]) if reason is None else None
        return {"calls": calls, **told, "system_calls": traced}

    # Two at a time: a count does not depend on who else runs.
    with ThreadPoolExecutor(2) as pool:
        try:
            found["ways"] = dict(zip(pythons, pool.map(count, pythons), strict=True))
        finally:
            # If this ends early, leaving the pool would wait for all that was asked for.
            pool.shutdown(wait=False, cancel_futures=True)
    wake_ups = max(row.pop("wake_ups") for row in found["ways"].values())
    return {"wake_ups": {"calls": _WAKE_UP_CALLS, "wake_ups": wake_ups}, **found}


def why_not_traced() -> str | None:
    """What stands in the way of counting system calls; None if nothing does."""
    if shutil.which("strace") is None:
        return "strace is not installed (on Debian: apt-get install strace)"
    probe = subprocess.run(
        ["strace", "-c", "-f", "true"], capture_output=True, text=True, check=False
    )
    return None if probe.returncode == 0 else f"strace: {probe.stderr.strip()[-200:]}"


def _system_calls(name: str, python: str) -> dict[str, float]:
    """System calls for each call of the contender of that name, of all its threads.

    The difference between a process that makes so many calls and one that makes twice as many, so
    start and end cancel out.
    """
    once, twice = _trace(name, python, _TRACED), _trace(name, python, 2 * _TRACED)
    difference = {call: (twice[call] - once[call]) / _TRACED for call in once | twice}
    return {call: each for call, each in sorted(difference.items()) if each}


def _trace(name: str, python: str, calls: int) -> Counter[str]:
    with tempfile.TemporaryDirectory(prefix="strace-") as folder:
        table = Path(folder, "table")
        strace = ("strace", "-c", "-f", "-U", "name,calls", "-o", str(table))
        with Child("costs.counts", name, calls, python=python, launch=strace) as child:
            child.hear(within=120)
            child.wait()
        found = (re.fullmatch(r"(\w+) +(\d+)", line.strip()) for line in table.open())
        return Counter({row[1]: int(row[2]) for row in found if row and row[1] != "total"})


def _tables(found: Found) -> list[Table]:
    rows = [
        (
            name,
            "-" if row["system_calls"] is None else f"{_total(row):z.2f}",
            f"{row['voluntary'] / row['calls']:.2f}",
            f"{row['forced'] / row['calls']:.2f}",
            _most(row["system_calls"] or {}),
        )
        for name, row in found["ways"].items()
    ]
    head = ("", "system calls", "switches: waits", "forced", "which system calls most")
    return [Table("For each call", head, rows)]


def _total(row: dict[str, Any]) -> float:
    return float(sum(row["system_calls"].values()))


def _most(traced: dict[str, float]) -> str:
    largest = sorted(traced.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{name} {each:.2f}" for name, each in largest if each >= 0.01)


def _goals(found: Found) -> list[Goal]:
    what = f"wake-ups of the watchdog's thread in {found['wake_ups']['calls']:,} calls"
    reason = "Something has woken it that is none of the calls."
    goals = [Goal(what, found["wake_ups"]["wake_ups"], 0, "", limit=1, reason=reason)]
    reason = "Calls have rung the thread, or memory was asked for more often than is usual."
    goals += [
        Goal(f"{name}: system calls for each call", abs(_total(row)), most, "", most, reason)
        for name, row in found["ways"].items()
        if name in OURS and row["system_calls"] is not None
        for most in (_MOST_SYSTEM_CALLS,)
    ]
    return goals


PART: Final = Part(
    name="counts",
    title="What each invocation asks of the machine",
    about="The system calls are those of all threads, counted by strace, as the difference between "
    f"a process that makes {_TRACED:,} calls and one that makes twice as many. The context "
    "switches are those that `getrusage` counts: *waits* means that a thread went to sleep, "
    "*forced* that it lost the processor. These counts do not depend on the machine's speed.",
    measure=_measure,
    tables=_tables,
    goals=_goals,
)


def main(name: str, calls: str) -> None:
    channel = Channel()
    handler = CONTENDERS[name].wrap(noop)
    threads = set(_TASKS.iterdir())
    if name in OURS:
        _start_the_thread()
    ours = set(_TASKS.iterdir()) - threads
    _call(handler, 10)  # whatever starts at the first call has started
    before, woken = resource.getrusage(resource.RUSAGE_SELF), sum(map(_voluntary_switches, ours))
    _call(handler, int(calls))
    after = resource.getrusage(resource.RUSAGE_SELF)
    channel.tell(
        voluntary=after.ru_nvcsw - before.ru_nvcsw,
        forced=after.ru_nivcsw - before.ru_nivcsw,
        wake_ups=sum(map(_voluntary_switches, ours)) - woken,
    )


def _start_the_thread() -> None:
    """By an invocation that it finds under way, so that it knows when to look next."""

    def until_it_sleeps(_event: object, _context: object) -> None:
        # Traced, or on a busy machine, that takes a while.
        until = monotonic() + _BOUND
        while process_watchdog.wake_at == math.inf and monotonic() < until:
            sleep(0.01)
        sleep(0.05)

    watch(until_it_sleeps)(None, context())


def _call(handler: Handler, calls: int) -> None:
    # As in Lambda, each invocation's deadline comes after the one before it.
    contexts = [context(later_ms=n) for n in range(_CONTEXTS)]
    for n in range(calls):
        handler(None, contexts[n * _CONTEXTS // calls])


def _voluntary_switches(task: Path) -> int:
    status = (task / "status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[0])
