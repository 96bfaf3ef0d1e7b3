"""Running cases, each in a function of its own under the real runtime, and what came of them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.runtime.runtime_api import NoAnswer, RuntimeApi
from tools.function import running

from .servers import PYTHON
from .valve import Valve

LIMIT: Final = 3.0
GRACE_PERIOD: Final = LIMIT / 4
FUNCTIONS_LIMIT: Final = 15.0
"""Seconds that the function itself has: what is left of them is for a fresh process's init."""

NEXT: Final = 3
"""Calls that must work after each that was interrupted."""

WAYS: Final = ("alone", "supervise", "alarm", "kept")
"""The watchdog by itself, with a supervisor, the recipe; and with no process ever replaced."""

_INIT_WITHIN: Final = 60.0
_SENT_AGAIN_WITHIN: Final = 0.6
"""Seconds in which a request that is sent again has come."""


class Outcome(NamedTuple):
    """What came of one call, and of those that followed it."""

    late_ms: int | None
    """After the interrupt was due; None if there was no answer before the limit."""
    how: str
    """The answer's error, by type."""
    sent: int
    """Times that a request has reached the server, where it can be counted."""
    said: str
    """What the first of the next calls was told that has not had the right answer; mostly none."""
    is_anew: bool
    """Whether a fresh process has served them."""


class Function:
    """One case's function, run in one way. Thread: one."""

    def __init__(self, case: str, server: str | None, way: str, ports: dict[str, int]) -> None:
        self._valves = {name: Valve(port) for name, port in ports.items() if name == server}
        told = {name: valve.port for name, valve in self._valves.items()}
        self._api = RuntimeApi(timeout=FUNCTIONS_LIMIT)
        self._n = 0
        self._life, self._is_held = "", False
        self._is_supervised, self._init_seconds = way == "supervise", 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = ExitStack()
        self._settings = {
            "PYTHONWARNINGS": "ignore",
            "NO_PROXY": "127.0.0.1",
            "STACKS_CASE": case,
            "STACKS_WAY": way,
            "STACKS_PORTS": json.dumps({**ports, **told}),
            "STACKS_ALARM": str(LIMIT - GRACE_PERIOD),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "WATCHDOG_LAMBDA_TIMEOUT": str(LIMIT),
            "WATCHDOG_LAMBDA_LAST_RESORT": "supervise" if way == "supervise" else "report",
            "WATCHDOG_LAMBDA_RECYCLE": "never" if way == "kept" else "auto",
        }
        self._runtime = "awslambdaric" if way == "alarm" else "watchdog_lambda"

    def __enter__(self) -> Self:
        self._api.__enter__()
        self._log = Path(os.environ.get("STACKS_LOG", os.devnull)).open("ab")
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        for valve in self._valves.values():
            valve.close()
        self._api.__exit__(None, None, None)
        self._log.close()

    def run(self, do: str) -> Outcome:
        """Have it hang, or be busy; then see whether it works."""
        if self._warm_up():
            self._kill()  # the last time has left it broken
            if said := self._warm_up():
                raise RuntimeError(said)
        life, sent = self._life, self._requests()
        if do == "hang" and self._is_held:
            for valve in self._valves.values():
                valve.hold()
        self._n += 1_000_000
        answer = self._invoke({"do": do, "n": self._n}, LIMIT)
        time.sleep(_SENT_AGAIN_WITHIN)
        sent = self._requests() - sent if do == "hang" else self._most()
        for valve in self._valves.values():
            valve.open()
        self._n += 1_000_000
        if self._is_supervised:
            # A fresh process is there when its init is over, and who comes before that waits.
            time.sleep(2 * self._init_seconds)
        said = next((said for _ in range(NEXT) if (said := self._ask(LIMIT))), "")
        if answer is None:
            return Outcome(None, "killed", sent, said, life != self._life)
        late, how = round((answer[1] - LIMIT + GRACE_PERIOD) * 1000), _error_of(answer[0])
        return Outcome(late, how, sent, said, life != self._life)

    def _warm_up(self) -> str:
        """Ask until it is right; the server may make itself ready as well."""
        for _ in range(3 * NEXT):
            if not (said := self._ask(_INIT_WITHIN)):
                break
        return said

    def _ask(self, within: float) -> str:
        """Ask for the next number; what was said in its place."""
        self._n += 1
        if self._process is None or self._process.poll() is not None:
            within = _INIT_WITHIN  # a cold start
        answer = self._invoke({"do": "ask", "n": self._n}, within)
        if answer is None:
            return "no answer"
        self._life, self._is_held = answer[0].get("life", ""), answer[0].get("is_held", False)
        return "" if answer[0].get("answer") == self._n else json.dumps(answer[0])[:300]

    def _requests(self) -> int:
        return sum(valve.requests for valve in self._valves.values())

    def _most(self) -> int:
        """How often what has been asked for most often was asked for: once, if it is right."""
        valve = self._valves.get("http")  # what others send is not text
        return 0 if valve is None else max(valve.numbers.values(), default=0)

    def _invoke(self, event: dict[str, Any], within: float) -> tuple[dict[str, Any], float] | None:
        """The answer, and after how many seconds; None if it was killed at the limit."""
        is_cold = self._process is None or self._process.poll() is not None
        if is_cold:
            self._start()
        began = time.monotonic()
        until = began + _INIT_WITHIN
        while not self._api.pollers and time.monotonic() < until:
            if self._api.init_errors:
                raise RuntimeError(str(self._api.init_errors[-1].body)[:500])
            time.sleep(0.005)
        if is_cold:
            self._init_seconds = time.monotonic() - began
        try:
            answer = self._api.invoke(event, within=within)
        except NoAnswer:
            self._kill()
            return None
        return answer.body, answer.seconds

    def _start(self) -> None:
        self._kill()  # what one that has ended has left
        command = [PYTHON, "-m", self._runtime, "benchmarks.stacks.function.handler"]
        started = running(command, self._api.address, self._log, self._settings)
        [self._process] = self._started.enter_context(started)

    def _kill(self) -> None:
        self._started.close()
        self._process = None


def _error_of(answer: Any) -> str:
    return str(answer.get("errorType", "")) if isinstance(answer, dict) else ""


def run(case: str, server: str | None, way: str, ports: dict[str, int], *do: str) -> list[Outcome]:
    """Run a case one way, and return the outcome of each of `do`.

    Raises:
        RuntimeError: it does not work to begin with; with what it has said.
    """
    with Function(case, server, way, ports) as function:
        return [function.run(each) for each in do]
