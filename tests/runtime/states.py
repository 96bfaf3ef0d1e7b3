"""Measures what the caller gets for each way to hang or die, with and without a supervisor.

    python3 -m tests.runtime.states > table.md       # as in docs/explanation/supervisor.md

Runs under AWS's emulator, with the real awslambdaric. If the process hangs or dies while it is
idle, the caller is the one of the next event.
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
"""The ways to hang or exit in C code after Python has been finalised."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The result of one combination of a state and a way to hang or die."""

    answer: str
    seconds: float
    has_stayed: bool
    """Whether the sandbox serves the next call, without a start of the platform's."""

    def __str__(self) -> str:
        return f"{self.answer}, {self.seconds:.1f} s; {'same' if self.has_stayed else 'new'}"


def said(response: Response) -> str:
    """Summarise a response in a few words."""
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
    """Return what the process says about itself.

    Try twice: the emulator may notice only then that the last process has ended.
    """
    for _ in range(2):
        with contextlib.suppress(ValueError, EmulatorError):
            found = emulator.invoke(LOOK).json()
            if isinstance(found, dict) and "pid" in found:
                return found
    return None


def cells() -> Iterator[tuple[State, str]]:
    """Return all combinations.

    An interrupt can land in the handler's own loop only during an event.
    """
    for state in STATES:
        for do in (*HANGS, *DIES, *AT_EXIT):
            # SystemExit on a thread ends only the thread, and swallowing needs an interrupt.
            if state == "idle" and do in {"sys.exit", *AT_EXIT}:
                continue
            if state != "open" and do == "swallow":
                continue
            yield state, do


def main() -> int:
    """Print the table, and return the exit status."""
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
