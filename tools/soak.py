"""The race at an invocation's end, in numbers: handlers that end just when the watchdog acts.

    python3 dev.py soak                                 # 200,000 invocations for each delivery
    python3 dev.py soak --interpreter 3.11 --interpreter 3.13
    python3 dev.py soak --invocations 3000 --seed 7 --delivery injection --only spin
    python3 dev.py soak --full --jobs 4                 # 1,000,000 for each, on each interpreter

Each invocation takes some milliseconds and ends within about 60 us of one of the two instants that
matter: when the watchdog begins to act on it, and when it sends the interrupt. After each call:

* What the caller has got is the very result or error of this invocation's handler, or this
  invocation's ``LambdaTimeout``. A handler that got as far as its ``return`` or ``raise`` is never
  timed out: it stores a flag right before, and CPython has no check point between the two.
* Nothing lands outside of the invocation: not in the code between two calls, not in the next one.
* A handler that does not end by itself is interrupted; no ``finally`` is skipped; nothing lands in
  a shield; no shield stays up; the watchdog thread lives; no call takes seconds.
* Each timeout has exactly one line in the log, and nothing else has.

The seed fixes what is drawn (kinds, lengths, where each one aims), not what the machine makes of
it. Rows called "known" count what cannot be helped: an injection does not see where it lands.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from tools import ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType

ROOT: Final = Path(__file__).resolve().parent.parent
RESULT: Final = "soak.result"
"""The event of a cell's last line."""

CAP: Final = 1800.0
_NO_CAP: Final = 10.0**7
FULL: Final = 1_000_000

PIPE: Final = 1 << 20
"""Bytes that a cell's lines may be read late by: on a busy machine, more than a line waits."""

DELIVERIES: Final = ("nudge", "injection")


class Log:
    """The lines that the timeouts of one cell left."""

    def __init__(self) -> None:
        self.lines: collections.Counter[int] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.interrupts: collections.Counter[str] = collections.Counter()
        self.garbage: list[str] = []
        self.result: dict[str, Any] | None = None

    def read(self, line: str) -> None:
        try:
            record = json.loads(line)
            if record["event"] == RESULT:
                self.result = record
                return
            self.lines[int(record["request_id"])] += 1
            self.outcomes[record["outcome"]] += 1
            self.interrupts.update(i["outcome"] for i in record["interrupts"])
        except (ValueError, KeyError, TypeError):
            self.garbage.append(line[:200])

    def violations(self) -> Iterator[tuple[str, int, str]]:
        """What, how often, and for example which."""
        reported: list[int] = self.result["reported"] if self.result is not None else []
        missing = [number for number in reported if number not in self.lines]
        doubled = [number for number, lines in self.lines.items() if lines > 1]
        for what, found in (
            ("a timeout without a line in the log", missing),
            ("more than one line for a timeout", doubled),
            ("no line of ours in the log", self.garbage),
        ):
            if found:
                yield what, len(found), str(found[0])


ROWS: Final = {
    "invocations": "invocations",
    "  of them blocks with a limit": "blocks",
    "  seconds": "seconds",
    "  the watchdog acted on": "fired",
    "    after it was due, us, p50 / p99": "lag",
    "  interrupted": "interrupted",
    "woke within 50 us of the end": "fired close",
    "  the handler was first": "fired close, handler first",
    "  the interrupt was first": "fired close, interrupt first",
    "interrupt sent within 50 us of it": "sent close",
    "  the handler was first ": "sent close, handler first",
    "  the interrupt was first ": "sent close, interrupt first",
    "lines in the log": "lines",
    **{f"  {outcome}": outcome for outcome in ("raised", "returned", "stuck")},
    "  interrupts: delivered": "delivered",
    "  interrupts: another followed": "swallowed",
    "  interrupts: never landed": "pending",
    "known: between the ends of two": "between two ends",
    "known: hit inside a Condition": "conditions hit",
    "known: dropped by C code": "dropped by C code",
    "other errors that C code dropped": "other errors dropped",
    "known: hung, and cut late": "cut late",
    "known: finally skipped (gh-130279)": "finally skipped",
    "VIOLATIONS": "violations",
}
"""What is printed, and the name of its counter."""


class Report(NamedTuple):
    """The result of one cell."""

    name: str
    seconds: float
    log: Log
    troubles: tuple[str, ...] = ()
    late: int = 0
    """Lines on standard error, because they were not read from standard output in time."""
    is_whole: bool = True
    """Whether every timeout must have its line."""

    @property
    def counted(self) -> collections.Counter[str]:
        return collections.Counter((self.log.result or {}).get("count", {}))

    def violations(self) -> Iterator[tuple[str, int]]:
        """What, and how often."""
        yield from ((trouble, 1) for trouble in self.troubles)
        if self.log.result is not None:
            yield from self.log.result["violations"].items()
        if self.is_whole:
            yield from ((f"{what} (say {which})", n) for what, n, which in self.log.violations())

    def rows(self) -> dict[str, str]:
        if self.log.result is None:
            return {}
        count = self.counted + self.log.outcomes + self.log.interrupts
        count["seconds"], count["lines"] = round(self.seconds), self.log.lines.total()
        count["violations"] = sum(n for _, n in self.violations())
        lag = " / ".join(map(str, self.log.result["lag_us"]))
        return {row: lag if key == "lag" else f"{count[key]:,}" for row, key in ROWS.items()}

    def tell(self) -> None:
        """Print what was wrong, with what is known about it."""
        violations = dict(self.violations())
        for what, number in violations.items():
            print(f"VIOLATION: {self.name}: {what}: {number}")
        for sample in (self.log.result or {}).get("samples", ()) if violations else ():
            print(f"\n{self.name}: {sample}", flush=True)


class Command:
    """Runs the cells: one after the other, or some side by side."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seed: int = options.seed if options.seed is not None else int(time.time())
        self.reports: list[Report] = []
        self.skipped: list[str] = []
        self.interrupted = 0
        self._children: list[subprocess.Popen[str]] = []
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)

    def run(self) -> int:
        chosen = self.options.delivery
        deliveries = DELIVERIES if chosen == "both" else (chosen,)
        cells = [(*found, delivery) for found in self.interpreters() for delivery in deliveries]
        with ThreadPoolExecutor(self.options.jobs) as pool:
            reports = pool.map(self._run_cell, *zip(*cells, strict=True)) if cells else ()
            self.reports += [report for report in reports if report is not None]
        print(table([(report.name, report.rows()) for report in self.reports]))
        for report in self.reports:
            report.tell()
        verdict = self.verdict(self.options.invocations * len(self.reports))
        print(verdict)
        if self.options.save is not None:
            self.options.save.write_text(self._document(verdict), encoding="utf-8")
        return self.status()

    def verdict(self, asked: int = 0, about: str = "") -> str:
        """The last line: how much was wrong in how much."""
        violations = sum(n for report in self.reports for _, n in report.violations())
        total = sum(report.counted["invocations"] for report in self.reports)
        verdict = "FAILED" if violations else "passed" if total else "nothing ran"
        verdict += ", interrupted" if self.interrupted else ""
        short = f" of {asked:,} asked for" if total < asked else ""
        what = f"{violations:,} violations in {total:,} invocations{short}{about}"
        return f"{verdict}: {what}; --seed {self.seed}"

    def status(self) -> int:
        """The command's exit status, as its help has it."""
        if self.interrupted:
            return 130
        if not self.reports:
            return 2
        return int(any(True for report in self.reports for _ in report.violations()))

    def interpreters(self) -> Iterator[tuple[str, str]]:
        """Path and version of those that can be used."""
        for given in self.options.interpreter or [sys.executable]:
            path, version, reason = look_at(given)
            if reason:
                self.skip(f"{given}: {reason}")
            else:
                yield path, version

    def skip(self, why: str) -> None:
        self.skipped.append(f"SKIPPED: {why}")
        print(self.skipped[-1], flush=True)

    def _run_cell(self, path: str, version: str, delivery: str) -> Report | None:
        """Its result; None if it was not started any more."""
        if self.interrupted > 0:
            return None
        options = self.options
        command = [path, "-m", "tools.soak_cell", delivery, str(options.invocations)]
        command += [str(self.seed), str(options.seconds_cap), *options.only]
        began = time.monotonic()
        log, status = self.watch(command, options.seconds_cap)
        seconds = time.monotonic() - began
        return Report(f"{version} {delivery}", seconds, log, self.troubles_of(log, status))

    def watch(
        self,
        command: Sequence[str],
        seconds: float,
        *,
        stderr: IO[str] | None = None,
        beside: Callable[[int], AbstractContextManager[object]] = nullcontext,
    ) -> tuple[Log, int]:
        """Run a cell to its end; the lines that it left, and its exit status.

        `beside` is given its process id, and is entered while it runs.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WATCHDOG_LAMBDA_")}
        environment["PYTHONPATH"] = os.pathsep.join(
            [*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)]
        )
        environment["PYTHONSAFEPATH"] = "1"
        log = Log()
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
            errors="replace",
            pipesize=PIPE,
        ) as child:
            # In the list before the look: an interrupt asks what is in there, and no other.
            self._children.append(child)
            if self.interrupted > 0:
                child.send_signal(signal.SIGINT)
            with beside(child.pid):
                # Longer than anything in there may take, in case nothing of it works any more.
                last_resort = threading.Timer(seconds + 60, child.kill)
                last_resort.start()
                for line in child.stdout or ():
                    log.read(line)
                status = child.wait()
                last_resort.cancel()
        return log, status

    def troubles_of(self, log: Log, status: int) -> tuple[str, ...]:
        """What is wrong with how the process ended."""
        if log.result is not None or self.interrupted:
            return ()
        died = f"signal {-status}" if status < 0 else f"status {status}"
        return (f"the process ended with {died} and no result",)

    def _interrupt(self, _signum: int, _frame: FrameType | None) -> None:
        self.interrupted += 1
        for child in self._children:
            if child.poll() is None:
                # Asked once it ends with what it has; a terminal's Ctrl-C has asked it, too.
                child.send_signal(signal.SIGINT if self.interrupted == 1 else signal.SIGKILL)

    def _document(self, verdict: str) -> str:
        """The result, for the documentation's page and picture; a line for each cell."""
        cells = [
            {
                "name": report.name,
                "rows": report.rows(),
                "distances": (report.log.result or {}).get("distances", {}),
            }
            for report in self.reports
        ]
        lines = ",\n".join(map(json.dumps, cells))
        return f'{{"verdict": {json.dumps(verdict)}, "cells": [\n{lines}\n]}}\n'


def look_at(given: str) -> tuple[str, str, str]:
    """An interpreter's path, its version (with its processor, if not ours), or why not."""
    path = shutil.which(given)
    if path is None:
        return given, "", "there is no such interpreter"
    ask = "import os, sys; print('%d.%d.%d' % sys.version_info[:3], os.uname().machine)"
    probe = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
    version = probe.stdout.strip().removesuffix(f" {os.uname().machine}")
    if probe.returncode != 0 or not version:
        return path, "", f"it does not start: {probe.stderr.strip()[-200:]}"
    if tuple(map(int, version.split(".")[:2])) < (3, 11):
        return path, version, f"Python 3.11 or later is needed, and this is {version}"
    return path, version, ""


def table(columns: Sequence[tuple[str, dict[str, str]]]) -> str:
    """Cells side by side: what each is called, and its rows."""
    labels = list(dict.fromkeys(label for _, rows in columns for label in rows))
    width = max(map(len, labels), default=0)
    widths = [max(len(name), *map(len, rows.values()), 0) for name, rows in columns]
    lines = [[" " * width, *(n.rjust(w) for (n, _), w in zip(columns, widths, strict=True))]]
    for label in labels:
        cells = (r.get(label, "-").rjust(w) for (_, r), w in zip(columns, widths, strict=True))
        lines.append([label.ljust(width), *cells])
    return "\n".join("  ".join(line) for line in lines)


def _at_least_one(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few: 1 or more")
    return number


def parser(prog: str, about: str | None) -> argparse.ArgumentParser:
    """What the soak and the chaos both take."""
    own = ending.parser(
        prog,
        about,
        "Exit status: 0 no violation, 1 some, 2 nothing could be run, 130 interrupted. Ctrl-C "
        "prints what\nthere is so far; twice: without what is under way.",
    )
    own.add_argument("--seed", type=int, help="of what is drawn (default: the time, and printed)")
    about = "run with this one; may be given again for more (default: this one)"
    own.add_argument("--interpreter", action="append", metavar="PATH", help=about)
    return own


def _parse() -> argparse.Namespace:
    own = parser("dev.py soak", __doc__)
    add = own.add_argument
    add("--invocations", type=_at_least_one, default=200_000, help="per cell (%(default)s)")
    about = "nudge: handlers on the main thread. injection: on another. (default: both)"
    add("--delivery", choices=(*DELIVERIES, "both"), default="both", help=about)
    about = f"end each cell after this long, with fewer invocations (default: {CAP:g})"
    add("--seconds-cap", type=float, metavar="S", help=about)
    about = "handlers of this kind only, by the name that violations give, or all that are called "
    about += "in blocks with a limit (blocks); may be given again"
    add("--only", action="append", default=[], metavar="KIND", help=about)
    about = "cells at a time; each takes half a core (default: %(default)s)"
    add("--jobs", type=_at_least_one, default=1, metavar="N", help=about)
    about = "write the result there as well, as JSON, with how close the ends came"
    add("--save", type=Path, metavar="FILE", help=about)
    about = f"{FULL:,} invocations per cell, without a cap on the time unless one is given"
    add("--full", action="store_true", help=about)
    options = own.parse_args()
    if options.full:
        options.invocations = FULL
        options.seconds_cap = options.seconds_cap or _NO_CAP
    options.seconds_cap = options.seconds_cap or CAP
    return options


if __name__ == "__main__":
    sys.exit(Command(_parse()).run())
