"""Thousands of timeouts through the real awslambdaric, at several workers at once.

    python3 dev.py workers                      # 10,000 timeouts for each style, 4 workers
    python3 dev.py workers --timeouts 200 --style instances --seed 7
    python3 dev.py workers --day                # some 86,400 events, of which 1 % time out

Handlers that sleep, compute, swallow, clean up, answer, fail, run a loop, wait for a child, hold a
shield, and among them those that end in time. Two styles: processes of their own, as Lambda scales
a function out; and the workers of one process, as on Managed Instances. The Runtime API is built
in, on loopback, and takes one answer for each event, as Lambda's does.

For every event: the answer is this event's own, and what this handler must give; each timeout
has one line in the log and nothing else has; no worker is lost, and none grows. An answer after the
hard deadline is counted as late, and is no violation: it says how busy the machine was.
"""

from __future__ import annotations

import argparse
import collections
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from tests.runtime.runtime_api import Answer, Invocation, NoAnswer, RuntimeApi
from tools import ending, resident
from tools.function import running
from tools.soak.report import Log
from tools.workers_cell import EITHER, IN_TIME, TIMES_OUT

STYLES: Final = ("processes", "instances")

MOST_EITHER: Final = 0.1  # of all events: they wait
DAY: Final = 86_400  # events: one a second
RARE: Final = 0.01  # of a day's events run into their timeout
OFTEN: Final = 0.8  # of the events do otherwise
TIMEOUT: Final = 0.2  # seconds of each event
PROGRESS: Final = 4.0
MOST_GROWTH_KB: Final = 8192  # of one worker, from a fifth of the events on to the end


class Run:
    def __init__(self, style: str, options: argparse.Namespace) -> None:
        self.style = style
        self.options = options
        self.chance = random.Random(f"{options.seed} {style}")  # noqa: S311 - nothing secret
        self.violations: collections.Counter[str] = collections.Counter()
        self.samples: list[str] = []
        self.count: collections.Counter[str] = collections.Counter()
        self.must: set[str] = set()  # request ids that must have a line
        self.may: set[str] = set()
        self.pids: set[int] = set()
        self.sizes: dict[int, int] = {}
        self.is_over = False
        self.began = time.monotonic()

    def run(self) -> None:
        command = [sys.executable, "-m", "watchdog_lambda", "tools.workers_cell.handler"]
        workers: int = self.options.workers
        settings, count = {}, workers
        if self.style == "instances":
            settings["AWS_LAMBDA_MAX_CONCURRENCY"], count = str(workers), 1
        with RuntimeApi(timeout=TIMEOUT) as api, tempfile.TemporaryFile() as log:
            with running(command, api.address, log, settings, count) as processes:
                api.wait_for_pollers(workers, within=60)
                self._send_all(api)
                ended = [process.poll() for process in processes]
                if any(status is not None for status in ended):
                    self._violated("a worker has ended", str(ended))
            log.seek(0)
            self._read(log.read().decode(errors="replace"))

    def _send_all(self, api: RuntimeApi) -> None:
        waiting: collections.deque[tuple[dict[str, Any], Invocation]] = collections.deque()
        told = time.monotonic()
        number = 0
        wanted: int = self.options.timeouts
        while waiting or (self.count["timeouts"] < wanted and not self.is_over):
            enough = self.count["timeouts"] + len(waiting) >= wanted or self.is_over
            if len(waiting) < 2 * self.options.workers and not enough:
                number += 1
                event = {"number": number, "do": self._draw()}
                waiting.append((event, api.send(event)))
                continue
            event, invocation = waiting.popleft()
            try:
                self._judge(event, invocation.request_id, invocation.answer(within=30))
            except NoAnswer as error:
                self._violated("no answer", f"{event['do']}: {error}")
                self.is_over = True
                return
            if time.monotonic() - told > PROGRESS:
                told = time.monotonic()
                ending.tell_progress(
                    f"{self.style}, timeouts",
                    self.count["timeouts"],
                    wanted,
                    seconds=told - self.began,
                    violations=self.violations.total(),
                )

    def _draw(self) -> str:
        drawn = self.chance.random()
        share = RARE if self.options.day else OFTEN
        if drawn < share:
            return self.chance.choice(TIMES_OUT)
        return EITHER if drawn < share + min((1 - share) / 2, MOST_EITHER) else IN_TIME

    def _judge(self, event: dict[str, Any], request_id: str, answer: Answer) -> None:
        self.count["events"] += 1
        problem = self._problem(event, request_id, answer)
        if problem is not None:
            self._violated(problem, f"{event['do']}: {answer.text[:300]}")
        if event["do"] in TIMES_OUT and '"late"' not in answer.text:
            self.count["timeouts"] += 1
            self.must.add(request_id)
        else:
            self.may.add(request_id)
        self.count["late"] += answer.seconds > TIMEOUT
        if answer.kind == "response" and "pid" in answer.text:
            self._weigh(answer.worker)

    def _problem(self, event: dict[str, Any], request_id: str, answer: Answer) -> str | None:
        """What is wrong with an answer; None if nothing."""
        body, do, number = answer.body, event["do"], event["number"]
        if answer.kind == "response":
            if (body["number"], body["id"]) != (number, request_id):
                return "another event's answer"
            if do in TIMES_OUT and not (body.get("answered") or body.get("late")):
                return "was not interrupted"
            return None
        if do == IN_TIME and answer.seconds > TIMEOUT / 2:
            return None  # the machine has been too busy for it to end in time
        if do in {IN_TIME, "answer"}:
            return "a finished result was lost"
        wanted = "KeyError" if do == "fail" else "LambdaTimeout"
        if body["errorType"] != wanted:
            return f"{body['errorType']} in the place of {wanted}"
        if do == "fail" and str(number) not in body["errorMessage"]:
            return "another event's error"
        return None

    def _weigh(self, pid: int) -> None:
        self.pids.add(pid)
        size = resident(pid) // 1024
        if self.count["timeouts"] < self.options.timeouts // 5 or pid not in self.sizes:
            self.sizes[pid] = size  # still warming up
        elif size - self.sizes[pid] > MOST_GROWTH_KB:
            self._violated("a worker grows", f"{size - self.sizes[pid]} KiB")
            self.sizes[pid] = size

    def _read(self, text: str) -> None:
        log = Log()
        for line in text.splitlines():
            if '"watchdog.' in line:
                log.read(line)
            elif line.startswith(("Fatal Python error", "Current thread 0x")):
                self._violated("stacks in the log", line)
        for what, number, which in log.violations(self.must):
            self._violated(what, which, number)
        if unasked := log.lines.keys() - self.must - self.may:
            self._violated("a line without a timeout", min(unasked), len(unasked))
        self.count["lines"] = log.lines.total()

    def _violated(self, what: str, sample: str, number: int = 1) -> None:
        if what not in self.violations:
            self.samples.append(f"{what}: {sample}")
        self.violations[what] += number

    def rows(self) -> Iterator[str]:
        yield (
            f"{self.style:<10} {self.count['events']:>7,} events {self.count['timeouts']:>7,} "
            f"timeouts {self.count['lines']:>7,} lines {self.count['late']:>5,} late "
            f"{len(self.pids):>2} workers {self.violations.total():>3} violations "
            f"{time.monotonic() - self.began:>5.0f} s"
        )
        for what, number in self.violations.items():
            yield f"VIOLATION: {self.style}: {what}: {number}"
        yield from self.samples


def main() -> int:
    options = _parse()
    print(f"seed {options.seed}", flush=True)
    runs: list[Run] = []

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        for run in runs:
            run.is_over = True

    signal.signal(signal.SIGINT, interrupt)
    for style in options.style or STYLES:
        runs.append(Run(style, options))
        runs[-1].run()
        print("\n".join(runs[-1].rows()), flush=True)
        if runs[-1].is_over:
            break
    violations = sum(run.violations.total() for run in runs)
    interrupted = any(run.is_over for run in runs) and not violations
    verdict = "FAILED" if violations else "passed"
    print(f"{verdict}{', interrupted' if interrupted else ''}: {violations} violations")
    return ending.INTERRUPTED if interrupted else min(1, violations)


def _parse() -> argparse.Namespace:
    parser = ending.parser(
        "dev.py workers",
        __doc__,
        "Exit status: 0 no violation, 1 some, 130 interrupted. Ctrl-C waits for the events under "
        "way\nand prints what there is.",
    )
    add = parser.add_argument
    add("--timeouts", type=int, default=10000, metavar="N", help="for each style (%(default)s)")
    about = f"what comes in a day, one event a second: {DAY * RARE:.0f} time out"
    add("--day", action="store_true", help=about)
    add("--workers", type=int, default=4, metavar="N", help="(%(default)s)")
    add("--style", action="append", choices=STYLES, help="this one only; may be given again")
    add("--seed", type=int, default=int(time.time()), help="of what is drawn (default: the time)")
    options = parser.parse_args()
    if options.day:
        options.timeouts = round(DAY * RARE)
    return options


if __name__ == "__main__":
    sys.exit(main())
