"""Invocations that end at the very instant at which the supervisor decides.

    python3 dev.py race                              # 100,000 invocations
    python3 dev.py race --count 2000 --seed 7

A handler returns, exits or crashes within a few milliseconds of the instant at which its supervisor
stops it; that instant is homed in on, so that about as many end before it as after it. Every event
must have one answer, its own. The built-in Runtime API refuses a second answer, and an event that
is asked for while another one is open; either is a violation. A late answer is none: it says how
busy the machine was.
"""

from __future__ import annotations

import collections
import contextlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from http import HTTPStatus
from typing import Any, Final, Literal

from tests.runtime.runtime_api import Answer, NoAnswer, RuntimeApi
from tools import ending
from tools.function import running
from watchdog_lambda._lambda.decision import margin
from watchdog_lambda.cli.runtime_api import Event

TIMEOUT: Final = 0.1  # seconds of the function: as short as the runtime's own work allows
KINDS: Final = ("hold", "hold", "free", "spin", "exit", "segfault")
SPREAD: Final = (-0.004, 0.006)
STEP: Final = 0.0004
ANSWERS_WITHIN: Final = 20.0


class StrictApi(RuntimeApi):
    """Takes one event and one answer at a time, and notes whatever is out of turn."""

    def __init__(self) -> None:
        super().__init__(timeout=TIMEOUT)
        self.violations: list[str] = []
        self._open: Event | None = None

    def take(self, connection: socket.socket) -> Event | None:
        """The next event; not while one is open."""
        if self._open is not None and self._open.posted is None:
            self.violations.append("the next event asked for while one was open")
        taken = super().take(connection)
        self._open = taken or self._open
        return taken

    def post(
        self, request_id: str, kind: Literal["response", "error"], text: str, error: str | None
    ) -> HTTPStatus:
        status = super().post(request_id, kind, text, error)
        if status != HTTPStatus.ACCEPTED:
            self.violations.append(f"{kind} refused with {int(status)}: {text[:80]}")
        return status


class Race:
    """One function, and what has come of its invocations."""

    def __init__(self, seed: int, python: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._python = python
        self._shift = dict.fromkeys(KINDS, 0.0)
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.violations: list[str] = []
        self.late = 0

    def run(self, count: int) -> int:
        """Race so often, or until the first violation; how many invocations there were."""
        command = [self._python, "-m", "watchdog_lambda", "tools.race_cell.handler"]
        settings = {
            "WATCHDOG_LAMBDA_LAST_RESORT": "supervise",
            # Or it would be the watchdog that ends the handler.
            "WATCHDOG_LAMBDA_INTERRUPT": "none",
        }
        with StrictApi() as api, tempfile.TemporaryFile() as log:
            with running(command, api.address, log, settings) as [process]:
                number = 0
                while number < count and not self.violations:
                    number += 1
                    self._one(api, number)
                    self.violations += api.violations
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            if self.violations:
                log.seek(0)
                print(log.read().decode(errors="replace")[-2000:])
            return number

    def _one(self, api: StrictApi, number: int) -> None:
        do = self._random.choice(KINDS)
        try:
            api.wait_for_pollers(1, within=ANSWERS_WITHIN)
            aimed = TIMEOUT - margin(TIMEOUT) + self._shift[do]
            event = {
                "do": do,
                "number": number,
                "until": time.monotonic() + aimed + self._random.uniform(*SPREAD),
                "large": self._random.random() < 0.1,
            }
            answer = api.send(event).answer(within=ANSWERS_WITHIN)
        except NoAnswer as error:
            self.violations.append(f"lost: {error}")
            return
        self._judge(do, number, answer)

    def _judge(self, do: str, number: int, answer: Answer) -> None:
        body: Any = answer.body
        if answer.kind == "response":
            who = "the handler"
            if body["number"] != number:
                self.violations.append(f"another event's answer: {str(body)[:80]}")
        else:
            who = body["errorType"]
        # Towards the instant at which it is either's.
        self._shift[do] += STEP if who in {"the handler", "RuntimeCrash"} else -STEP
        self.counts[do, who] += 1
        self.late += answer.seconds > TIMEOUT


def main() -> int:
    parser = ending.parser("dev.py race", __doc__, "Exit status: 0 no violation, 1 some.")
    parser.add_argument("--count", type=int, default=100_000, help="invocations")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311
    parser.add_argument("--interpreter", default=sys.executable)
    options = parser.parse_args()
    race = Race(options.seed, options.interpreter)
    began = time.monotonic()
    done = race.run(options.count)
    for (do, who), count in sorted(race.counts.items()):
        print(f"{do:>10}: {count:6} answered by {who}")
    print(
        f"{done} invocations in {time.monotonic() - began:.0f} s, seed {options.seed}, "
        f"{race.late} late: {len(race.violations)} violations"
    )
    for violation in race.violations:
        print(f"  {violation}")
    return int(bool(race.violations))


if __name__ == "__main__":
    raise SystemExit(main())
