"""What a call costs the machine, as counts: system calls and wake-ups.

Times depend on the machine and on its other tenants; these do not.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, NamedTuple

from watchdog_lambda import watch

from .contenders import contenders, context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contenders import Contender

ROOT = Path(__file__).resolve().parent.parent
_TRACED = 1000  # calls; strace slows each system call down some fifty times
_CONTEXTS = 1000


class Waits(NamedTuple):
    """How often a contender's calls put a thread to sleep and woke it."""

    name: str
    calls: int
    switches: int
    """Voluntary context switches of the whole process, of threads that ended included."""


def waits(contender: Contender, calls: int) -> Waits:
    """Count over `calls` calls."""
    _call(contender, 10)  # whatever starts at the first call has started
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    _call(contender, calls)
    return Waits(contender.name, calls, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before)


def wake_ups(contender: Contender, calls: int) -> int | None:
    """How often the watchdog thread woke up during `calls` calls; None where that cannot be told.

    Run it first in its process: the thread is recognised by its being new.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return None
    before = set(os.listdir(tasks))  # noqa: PTH208 - names are all that is wanted
    _start_the_thread()
    (new,) = set(os.listdir(tasks)) - before  # noqa: PTH208
    status = tasks / new / "status"
    first = _voluntary_switches(status)
    _call(contender, calls)
    return _voluntary_switches(status) - first


def _start_the_thread() -> None:
    # By an invocation that it finds under way, so that it knows when to look next.
    watch(_takes_a_moment)(None, context())


def _takes_a_moment(_event: object, _context: object) -> None:
    sleep(0.05)


def _call(contender: Contender, calls: int) -> None:
    # As in Lambda, each invocation's deadline comes after the one before it.
    contexts = [context(later_ms=n) for n in range(_CONTEXTS)]
    handler = contender.handler
    for n in range(calls):
        handler(None, contexts[n * _CONTEXTS // calls])


def _voluntary_switches(status: Path) -> int:
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


# ---- system calls --------------------------------------------------------------------------------


def why_not_traced() -> str | None:
    """What stands in the way of counting system calls; None if nothing does."""
    if shutil.which("strace") is None:
        return "strace is not installed (on Debian: apt-get install strace)"
    probe = subprocess.run(
        ["strace", "-c", "-f", "true"], capture_output=True, text=True, check=False
    )
    return None if probe.returncode == 0 else f"strace: {probe.stderr.strip()[-200:]}"


def system_calls(name: str) -> dict[str, float]:
    """System calls for each call of the contender of that name, of all its threads.

    The difference between a process that makes so many calls and one that makes twice as many, so
    start and end cancel out.
    """
    once, twice = _trace(name, _TRACED), _trace(name, 2 * _TRACED)
    difference = {call: (twice[call] - once[call]) / _TRACED for call in once | twice}
    return {call: each for call, each in sorted(difference.items()) if each}


def _trace(name: str, calls: int) -> Counter[str]:
    with tempfile.NamedTemporaryFile("r", prefix="strace-") as table:
        traced = [sys.executable, "-m", f"{__package__}.counts", name, str(calls)]
        subprocess.run(
            ["strace", "-c", "-f", "-U", "name,calls", "-o", table.name, *traced],
            check=True,
            cwd=ROOT,
        )
        found = (re.fullmatch(r"(\w+) +(\d+)", line.strip()) for line in table)
        return Counter({row[1]: int(row[2]) for row in found if row and row[1] != "total"})


def main(arguments: Sequence[str]) -> None:
    """Make so many calls of one contender: what is traced."""
    name, calls = arguments
    contender = next(c for c in contenders()[0] if c.name == name)
    if contender.is_ours:
        _start_the_thread()
    _call(contender, int(calls))


if __name__ == "__main__":
    main(sys.argv[1:])
