"""The soak's invocations under adverse conditions, of the handler, its tools and its sandbox.

    python3 dev.py chaos                                # under every condition, half a minute each
    python3 dev.py chaos --condition coverage --seconds 600
    python3 dev.py chaos --interpreter 3.13 --seed 7
    python3 dev.py chaos --list

Each condition has a process of its own, on the main thread (nudge) or another (injection), as the
seed decides. All that the soak asserts must hold, and no process may crash, hang, or write anything
else to standard error.

The seed fixes what is drawn, not what the machine makes of it. "Known" is what cannot be helped: a
tool's Python code is interrupted instead of the handler's, the handler itself lacks what the
condition takes away, and a line that is not read in time comes on standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tools import ending
from tools.soak import command
from tools.soak.command import DELIVERIES
from tools.soak.conditions import CONDITIONS
from tools.soak.report import Report

ONLY_NUDGE: Final = {
    *("settrace", "setprofile", "debugger", "cProfile", "recursion", "signals", "coverage")
}
"""Tools that are set for one thread, and signals, which the main one handles. And coverage: an
injection may land where its lock is held, which then stays locked."""

SPOKEN: Final = ("Fatal Python error", "Current thread 0x", "Thread 0x")
"""How lines begin that ``faulthandler`` writes; no stacks are to be dumped here."""

TICK: Final = 0.2
ATTACH, DETACH = 16, 17  # of ptrace(2)


class Command(command.Command):
    """Runs the cells one after the other."""

    def run(self) -> int:
        print(f"seed {self.seed}", flush=True)
        chance = random.Random(self.seed)  # noqa: S311 - nothing secret
        for path, version in self.interpreters():
            for condition in self.options.condition or CONDITIONS:
                drawn = "nudge" if condition in ONLY_NUDGE else chance.choice(DELIVERIES)
                if not self.interrupted:
                    self._run_condition(path, version, condition, self.options.delivery or drawn)
        done = f", {len(self.reports)} conditions, {self.skipped} skipped"
        print(self.verdict(about=done))
        return self.status()

    def _run_condition(self, path: str, version: str, condition: str, delivery: str) -> None:
        seconds: float = self.options.seconds
        words = [path, "-m", "tools.soak.chaos_cell", condition, delivery]
        words += map(str, (self.seed, seconds))
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as errors:
            log, status = self.watch(
                words,
                seconds,
                stderr=errors,
                beside=lambda pid: _outside(condition, pid, self.seed),
            )
            errors.seek(0)
            said = errors.read().splitlines()
        # A line that is not read from standard output in time goes here: late, but not lost.
        late = [line for line in said if line.startswith('{"')]
        for line in late:
            log.read(line)
        if status == ending.SKIPPED:
            self.skip(f"{version} {condition}: {said[-1]}")
            return
        troubles = self.troubles_of(log, status)
        if any(line.startswith(SPOKEN) for line in said):
            troubles += ("stacks on standard error",)
        name, seconds = f"{version} {condition} ({delivery})", time.monotonic() - began
        is_whole = not any(kind.breaks_records for kind in CONDITIONS[condition])
        report = Report(name, seconds, log, troubles, len(late), is_whole)
        self.reports.append(report)
        count = report.counted
        known = sum(n for what, n in count.items() if what.startswith("known"))
        known += count["dropped by C code"] + count["finally skipped"] + report.late
        print(
            f"{report.name:<36} {count['invocations']:>8,} invocations "
            f"{count['interrupted']:>8,} interrupted {known:>5,} known "
            f"{sum(n for _, n in report.violations()):>3,} violations {report.seconds:>6.0f} s",
            flush=True,
        )
        report.tell()
        if troubles:
            print("\n".join(said[-80:]), flush=True)


@contextlib.contextmanager
def _outside(condition: str, pid: int, seed: int) -> Iterator[None]:
    """Do to the process what a condition does from outside, by a thread: most do nothing."""
    act = OUTSIDE.get(condition)
    if act is None:
        yield
        return
    chance = random.Random(f"{seed} outside")  # noqa: S311 - nothing secret
    over = threading.Event()

    def pause(most: float) -> bool:
        return over.wait(chance.random() * most)

    def run() -> None:
        while not pause(TICK):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                act(pid, pause)

    thread = threading.Thread(target=run, name="outside")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _freeze(pid: int, pause: Callable[[float], bool]) -> None:
    """SIGSTOP and SIGCONT from outside, as a sandbox is frozen and thawed."""
    os.kill(pid, signal.SIGSTOP)
    pause(TICK)
    os.kill(pid, signal.SIGCONT)


def _attach(pid: int, pause: Callable[[float], bool]) -> None:
    """A debugger that attaches from outside and stops each thread (ptrace), as gdb does."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    attached = []
    for entry in Path(f"/proc/{pid}/task").iterdir():
        thread = int(entry.name)
        if libc.ptrace(ATTACH, thread, None, None) == 0:
            # __WALL: not only a child of ours, but its threads.
            _, status = os.waitpid(thread, 0x40000000)
            if os.WIFSTOPPED(status):
                attached.append((thread, os.WSTOPSIG(status)))
    pause(0.02)
    for thread, stopped_by in attached:
        # What has stopped it instead of us is delivered after all.
        again = 0 if stopped_by == signal.SIGSTOP else stopped_by
        libc.ptrace(DETACH, thread, None, again)


OUTSIDE: Final = {"frozen": _freeze, "attached": _attach}


def main() -> int:
    """Run the command; return its exit status."""
    parser = command.parser("dev.py chaos", __doc__)
    add = parser.add_argument
    about = "this one only, by its name in --list; may be given again"
    add("--condition", action="append", choices=list(CONDITIONS), metavar="NAME", help=about)
    add("--list", action="store_true", help="name the conditions and end")
    about = "for each condition and interpreter (default: %(default)s)"
    add("--seconds", type=float, default=30.0, metavar="S", help=about)
    add("--delivery", choices=DELIVERIES, help="for all (default: the seed decides)")
    options = parser.parse_args()
    if not options.list:
        return Command(options).run()
    for name, kinds in CONDITIONS.items():
        of = [OUTSIDE[name]] if name in OUTSIDE else kinds
        print(f"{name:<14}{'; '.join((each.__doc__ or '').partition(chr(10))[0] for each in of)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
