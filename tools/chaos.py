"""The soak's invocations in bad weather: what a handler, its tools and its sandbox do to a process.

    python tools/chaos.py                                # every weather, half a minute each
    python tools/chaos.py --weather coverage --seconds 600
    python tools/chaos.py --interpreter python3.13 --seed 7
    python tools/chaos.py --list

Each weather has a process of its own, on the main thread (nudge) or another (injection) as the seed
has it: the handler's own signals and timers, forks, the collector at nearly every allocation, with
finalisers that let the GIL go; ``sys.settrace``, ``sys.setprofile``, ``sys.monitoring``, coverage,
cProfile, a debugger of Python's, one that attaches from outside (ptrace); a tiny recursion limit,
no descriptors, no threads, hardly any memory; a wall clock that steps by up to a year; a sandbox
that is frozen and thawed.

After each call everything holds that the soak asks for: the handler's own result or error, or its
own ``LambdaTimeout``; nothing outside of the invocation; one line for each timeout; no state left
behind; the next one fine. And no process crashes, hangs, or writes what nobody has asked for to
standard error.

The seed fixes what is drawn, not what the machine makes of it. Rows called "known" count what
cannot be helped: Python code of a tool's is interrupted in the place of the handler's, what the
weather takes is missing to the handler as well, and a line that is not read in time on standard
output comes on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

# Run as a file, by whatever interpreter.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import soak
from tools.chaos_cell import UNAVAILABLE, WEATHERS
from tools.soak import DELIVERIES, Log

if TYPE_CHECKING:
    from collections.abc import Iterator

CELL: Final = Path(__file__).with_name("chaos_cell.py")

ONLY_NUDGE: Final = {
    *("settrace", "setprofile", "debugger", "cProfile", "recursion", "signals", "coverage"),
}
"""Tools that are set for one thread, and what only the main one is asked for. And coverage: where
an injection lands is not seen, and in between its lock's two ends that stays locked for good."""

SPOKEN: Final = ("Fatal Python error", "Current thread 0x", "Thread 0x")
"""How lines begin that ``faulthandler`` writes: nobody is to be spoken for here."""

TICK: Final = 0.2
ATTACH, DETACH = 16, 17  # of ptrace(2)


class Cell(NamedTuple):
    """What one weather came to."""

    version: str
    weather: str
    delivery: str
    seconds: float
    log: Log
    late: int  # lines that its standard output did not take in time, so standard error did
    trouble: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.version} {self.weather} ({self.delivery})"

    @property
    def counted(self) -> dict[str, int]:
        result: dict[str, Any] = self.log.result or {"count": {}}
        count: dict[str, int] = result["count"]
        return count

    def violations(self) -> Iterator[tuple[str, int]]:
        """What, and how often."""
        for trouble in self.trouble:
            yield trouble, 1
        if self.log.result is not None:
            yield from self.log.result["violations"].items()
        breaks_records = any(kind.breaks_records for kind in WEATHERS[self.weather])
        for what, number, which in self.log.violations():
            if not breaks_records:
                yield f"{what} (say {which})", number


class Command(soak.Command):
    """Runs the cells one after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.chance = random.Random(self.seed)  # noqa: S311 - nothing secret
        self.cells: list[Cell] = []

    def run(self) -> int:
        print(f"seed {self.seed}", flush=True)
        for path, version in self.interpreters():
            for weather in self.options.weather or WEATHERS:
                if not self.interrupted:
                    self._stand(path, version, weather)
        return self._conclude()

    def _stand(self, path: str, version: str, weather: str) -> None:
        delivery = "nudge" if weather in ONLY_NUDGE else self.chance.choice(DELIVERIES)
        delivery = self.options.delivery or delivery
        seconds: float = self.options.seconds
        command = [path, "-P", str(CELL), weather, delivery, str(self.seed), str(seconds)]
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as errors:
            log, status = self.watch(
                command,
                seconds,
                stderr=errors,
                beside=lambda pid: _Outside(weather, pid, self.seed),
            )
            errors.seek(0)
            said = errors.read()
        # Where a line goes that nobody reads on standard output: late, but not lost.
        late = [line for line in said.splitlines() if line.startswith('{"')]
        for line in late:
            log.read(line)
        if status == UNAVAILABLE:
            self.skip(f"{version} {weather}: {said.splitlines()[-1]}")
            return
        trouble = list(filter(None, [self.trouble_of(log, status)]))
        if any(line.startswith(SPOKEN) for line in said.splitlines()):
            trouble.append("stacks on standard error")
        seconds = time.monotonic() - began
        cell = Cell(version, weather, delivery, seconds, log, len(late), tuple(trouble))
        self.cells.append(cell)
        self._tell(cell, said if trouble else "")

    def _tell(self, cell: Cell, said: str) -> None:
        """One line for a cell, and what is wrong with it."""
        count = cell.counted
        known = sum(n for what, n in count.items() if what.startswith("known"))
        known += count.get("dropped by C code", 0) + count.get("finally skipped", 0) + cell.late
        violations = dict(cell.violations())
        print(
            f"{cell.name:<36} {count.get('invocations', 0):>8,} invocations "
            f"{count.get('interrupted', 0):>8,} interrupted {known:>5,} known "
            f"{sum(violations.values()):>3,} violations {cell.seconds:>6.0f} s",
            flush=True,
        )
        for what, number in violations.items():
            print(f"VIOLATION: {cell.name}: {what}: {number}", flush=True)
        for sample in (cell.log.result or {}).get("samples", ()) if violations else ():
            print(f"\n{sample}\n", flush=True)
        if said:
            print("\n".join(said.splitlines()[-80:]), flush=True)

    def _conclude(self) -> int:
        violations = sum(number for cell in self.cells for _, number in cell.violations())
        invocations = sum(cell.counted.get("invocations", 0) for cell in self.cells)
        verdict = "FAILED" if violations else "passed" if invocations else "nothing ran"
        if self.interrupted:
            verdict += ", interrupted"
        print(
            f"{verdict}: {violations:,} violations in {invocations:,} invocations, "
            f"{len(self.cells)} weathers, {len(self.skipped)} skipped; --seed {self.seed}"
        )
        if self.interrupted:
            return 130
        return 2 if not self.cells else min(1, violations)


class _Outside:
    """What is done to the process from outside, by a thread: nothing in most weathers."""

    def __init__(self, weather: str, pid: int, seed: int) -> None:
        self._act = {"frozen": self._freeze, "attached": self._attach}.get(weather)
        self._pid = pid
        self._chance = random.Random(f"{seed} outside")  # noqa: S311 - nothing secret
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outside")

    def __enter__(self) -> None:
        if self._act is not None:
            self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self._act is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._act is not None and not self._over.wait(self._chance.random() * TICK):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                self._act()

    def _freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)
        self._over.wait(self._chance.random() * TICK)
        os.kill(self._pid, signal.SIGCONT)

    def _attach(self) -> None:
        """Stop each of its threads for a moment, as gdb and py-spy do."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        attached = []
        for entry in Path(f"/proc/{self._pid}/task").iterdir():
            thread = int(entry.name)
            if libc.ptrace(ATTACH, thread, None, None) == 0:
                # __WALL: not only a child of ours, but its threads.
                _, status = os.waitpid(thread, 0x40000000)
                if os.WIFSTOPPED(status):
                    attached.append((thread, os.WSTOPSIG(status)))
        self._over.wait(self._chance.random() * 0.02)
        for thread, stopped_by in attached:
            # What has stopped it instead of us is delivered after all.
            again = 0 if stopped_by == signal.SIGSTOP else stopped_by
            libc.ptrace(DETACH, thread, None, again)


def main() -> int:
    """Run the command; return its exit status."""
    options = _parse()
    if options.list:
        for name, kinds in WEATHERS.items():
            about = "; ".join((kind.__doc__ or "").partition("\n")[0] for kind in kinds)
            print(f"{name:<14}{OUTSIDE.get(name, about)}")
        return 0
    return Command(options).run()


OUTSIDE: Final = {
    "frozen": "SIGSTOP and SIGCONT from outside, as a sandbox is frozen and thawed.",
    "attached": "A debugger that attaches from outside and stops each thread (ptrace).",
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tools/chaos.py",
        description=__doc__,
        epilog="Exit status: 0 no violation, 1 some, 2 nothing could be run, 130 interrupted. "
        "Ctrl-C prints what there is so far; twice: without what is under way.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    about = "this one only, by its name in --list; may be given again"
    add("--weather", action="append", choices=list(WEATHERS), metavar="NAME", help=about)
    add("--list", action="store_true", help="name the weathers and end")
    about = "for each weather and interpreter (default: %(default)s)"
    add("--seconds", type=float, default=30.0, metavar="S", help=about)
    add("--seed", type=int, help="of what is drawn (default: the time, and printed)")
    add("--delivery", choices=DELIVERIES, help="for all (default: as the seed has it)")
    about = "run with this one; may be given again for more (default: this one)"
    add("--interpreter", action="append", metavar="PATH", help=about)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
