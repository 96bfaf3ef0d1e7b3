"""What a process costs while it has nothing to do.

``python -m benchmarks.child costs.idle STATE`` waits for a line, before, in or after an invocation.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

from benchmarks.child import Channel
from benchmarks.children import Child
from watchdog_lambda import watch
from watchdog_lambda.testing import FakeContext

from .registry import context
from .report import SKIPPED, Found, Goal, Part, Table, Tell, digits

_STATES: Final = {
    "bare": "without the package",
    "parked": "after an invocation, whose deadline is over",
    "invoked": "in an invocation that waits",
}

_WOKEN: Final = (
    "Something of ours has looked at the clock while there was nothing to do; or a signal came "
    "from outside."
)


def _measure(*, quick: bool, tell: Tell) -> Found:
    seconds = 3 if quick else 20
    tell(f"{len(_STATES)} idle processes, {seconds} s")
    found: Found = {"seconds": seconds, "states": {}, SKIPPED: []}
    with contextlib.ExitStack() as processes:
        # All at the same time: they do nothing.
        children = {state: processes.enter_context(Child("costs.idle", state)) for state in _STATES}
        for child in children.values():
            child.hear()
        time.sleep(0.3)  # whatever telling has set going has come to rest
        before = {state: _used(child.pid) for state, child in children.items()}
        time.sleep(seconds)
        for state, child in children.items():
            switches, cpu_us = (b - a for a, b in zip(before[state], _used(child.pid), strict=True))
            found["states"][state] = {"wake_ups": round(switches), "cpu_us": cpu_us}
    return found


def _used(pid: int) -> tuple[float, float]:
    """Switches and microseconds of CPU time, by all threads of a process so far."""
    tasks = list(Path("/proc", str(pid), "task").iterdir())
    switches = re.compile(r"^\w+_ctxt_switches:\s+(\d+)", re.MULTILINE).findall
    cpu_ns = (int((task / "schedstat").read_text().split()[0]) for task in tasks)
    woken = sum(int(n) for task in tasks for n in switches((task / "status").read_text()))
    return woken, sum(cpu_ns) / 1000


def _tables(found: Found) -> list[Table]:
    to_minute = 60 / found["seconds"]
    rows = [
        (_STATES[state], digits(row["wake_ups"] * to_minute), digits(row["cpu_us"] * to_minute))
        for state, row in found["states"].items()
    ]
    title = f"Each minute; seen for {found['seconds']} s and scaled"
    return [Table(title, ("an idle process", "wake-ups", "CPU time, µs"), rows)]


def _goals(found: Found) -> list[Goal]:
    return [
        Goal(f"idle {_STATES[state]}: wake-ups", row["wake_ups"], 0, "", limit=0, reason=_WOKEN)
        for state, row in found["states"].items()
        if state != "bare"
    ]


PART: Final = Part(
    name="idle",
    title="What an idle process costs",
    about="The switches and CPU time are those of all threads, from `/proc`, while the main thread "
    "waits in C, as the runtime does between two invocations. An invocation that ends before its "
    "deadline leaves at most one wake-up, at that deadline; the row of an invocation that is over "
    "begins after it.",
    measure=_measure,
    tables=_tables,
    goals=_goals,
)


def main(state: str) -> None:
    """Tell when it is idle, and wait in C like the runtime does."""
    channel = Channel()

    def wait(_event: object = None, _context: object = None) -> None:
        channel.tell(idle=True)
        os.read(0, 1)

    if state == "bare":
        wait()
    elif state == "invoked":
        watch(wait)(None, context())
    else:
        watch(lambda _event, _context: time.sleep(0.05))(None, FakeContext(0.4))
        time.sleep(0.5)  # the deadline that it had is over
        wait()
