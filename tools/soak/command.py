"""Runs cells, each in a process of its own, and gathers what they leave."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import IO, Final

from tools import ROOT, ending
from tools.soak.report import Log, Report, table

PIPE: Final = 1 << 20
"""Bytes that a cell's lines may be read late by: on a busy machine, more than a line waits."""

DELIVERIES: Final = ("nudge", "injection")


class Command:
    """Runs the cells: one after the other, or some side by side."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seed: int = options.seed if options.seed is not None else int(time.time())
        self.reports: list[Report] = []
        self.skipped = 0
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
        """The command's exit status; its help lists them."""
        if self.interrupted:
            return 130
        if not self.reports:
            return 2
        return int(any(True for report in self.reports for _ in report.violations()))

    def interpreters(self) -> Iterator[tuple[str, str]]:
        """Path and version of those that can be used."""
        for given in self.options.interpreter or [sys.executable]:
            path, version, reason = ending.look_at(given)
            if reason:
                self.skip(f"{given}: {reason}")
            else:
                yield path, version

    def skip(self, why: str) -> None:
        self.skipped += 1
        print(f"SKIPPED: {why}", flush=True)

    def _run_cell(self, path: str, version: str, delivery: str) -> Report | None:
        """Its result; None if it was not started any more."""
        if self.interrupted > 0:
            return None
        options = self.options
        command = [path, "-m", "tools.soak.cell", delivery, str(options.invocations)]
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
        paths = [*filter(None, [environment.get("PYTHONPATH")]), str(ROOT)]
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
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
            # Append first, then look: a later interrupt ends what is in the list.
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
                # After the first SIGINT a cell ends with what it has; a terminal has sent it, too.
                child.send_signal(signal.SIGINT if self.interrupted == 1 else signal.SIGKILL)

    def _document(self, verdict: str) -> str:
        """The result, for the documentation's page and picture; a line for each cell."""
        cells = [
            {
                "name": r.name,
                "rows": r.rows(),
                "distances": (r.log.result or {}).get("distances", {}),
            }
            for r in self.reports
        ]
        lines = ",\n".join(map(json.dumps, cells))
        return f'{{"verdict": {json.dumps(verdict)}, "cells": [\n{lines}\n]}}\n'


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
