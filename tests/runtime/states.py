"""Each way to hang and to die, in each state, with and without a supervisor: what the caller gets.

    python3 -m tests.runtime.states > table.md       # as in docs/explanation/supervisor.md

Under AWS's emulator, with the real awslambdaric. Where nothing is under way, in an idle process,
the caller is the one of the next event.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from .emulator import EmulatorError
from .harness import bare, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .emulator import Emulator, Response

TIMEOUT: Final = 3
LOOK: Final = {"do": "look"}
State = Literal["init", "idle", "open", "answering"]
STATES: Final = get_args(State)
HANGS: Final = ("sum", "sorted", "json", "deadlock with the GIL", "deadlock", "swallow")
DIES: Final = ("segfault", "segfault elsewhere", "abort", "exit", "sys.exit", "kill", "terminate")
AT_EXIT: Final = ("hang at exit", "exit at exit")
"""In what C does after Python's end."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What has come of one of them."""

    answer: str
    seconds: float
    has_stayed: bool
    """Whether the sandbox serves the next call, without a start of the platform's."""

    def __str__(self) -> str:
        return f"{self.answer}, {self.seconds:.1f} s; {'same' if self.has_stayed else 'new'}"


def said(response: Response) -> str:
    """In a few words."""
    try:
        body: Any = json.loads(response.body)
    except ValueError:
        text = re.sub(r".*Task timed out.*", "Task timed out", response.body, flags=re.DOTALL)
        return text.strip() or f"an empty {response.status}"
    if "errorType" not in body:
        return "its answer"
    text = re.sub(r".*exited with error: | after [\d.]+ s.*| in .*", "", body["errorMessage"])
    return f"`{body['errorType']}` {text}"


def cell(state: State, do: str, *, supervised: bool) -> Cell:
    """Start a function, have it hang or die, and call it again."""
    handler = "dying.answering" if state == "answering" else "dying.handler"
    environment = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    if state == "init":
        environment["DIE_IN_INIT"] = do
    if supervised:
        environment["WATCHDOG_LAMBDA_LAST_RESORT"] = "supervise"
    make = wrapped if supervised else bare
    warm_up = None if state == "init" else LOOK
    with make(handler, timeout=TIMEOUT, environment=environment, warm_up=warm_up) as emulator:
        before = None if state == "init" else look(emulator)
        response = emulator.invoke({"do": do, "idle": state == "idle"})
        if state == "idle":
            emulator.wait_for_line(lambda text: "going to" in text)
            response = emulator.invoke(LOOK)
        after = None if state == "init" else look(emulator)
        who = "supervisor" if supervised else "pid"
        stayed = before is not None and after is not None and before[who] == after[who]
        return Cell(said(response), response.seconds, stayed)


def look(emulator: Emulator) -> dict[str, Any] | None:
    """What the process says of itself; the emulator may notice only now that the last is gone."""
    for _ in range(2):
        with contextlib.suppress(ValueError, EmulatorError):
            found = emulator.invoke(LOOK).json()
            if isinstance(found, dict) and "pid" in found:
                return found
    return None


def cells() -> Iterator[tuple[State, str]]:
    """All that there are. What lands in a loop of the handler's own does so in an event's time."""
    for state in STATES:
        for do in (*HANGS, *DIES, *AT_EXIT):
            # A thread's SystemExit ends that; and to swallow, there has to be an interrupt.
            if state == "idle" and do in {"sys.exit", *AT_EXIT}:
                continue
            if state != "open" and do == "swallow":
                continue
            yield state, do


def main() -> int:
    """Print the table; the exit status."""
    print("| state | what happens | without | with `supervise` |\n|---|---|---|---|", flush=True)
    wanted = list(cells())
    with ThreadPoolExecutor(3) as pool:
        without = pool.map(lambda each: cell(*each, supervised=False), wanted)
        with_it = pool.map(lambda each: cell(*each, supervised=True), wanted)
        for (state, do), left, right in zip(wanted, without, with_it, strict=True):
            print(f"| {state} | {do} | {left} | {right} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
