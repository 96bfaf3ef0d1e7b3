"""How long it takes from the interrupt until the caller has the answer, through AWS's emulator."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from tools.emulator import EmulatorUnavailable, fetch_emulator
from watchdog_lambda.cli.arguments import parser
from watchdog_lambda.cli.emulator import Emulator
from watchdog_lambda.cli.invoke import function_of

from .interrupts import figures_of
from .report import SKIPPED, Found, Part, Table, Tell

_APP: Final = """
import os, time

def write(note):
    with open(note + ".new", "w") as file:
        file.write(repr(time.monotonic()))
    os.replace(note + ".new", note)

def handler(event, _context):
    do, note = event["do"], event["note"]
    try:
        if do != "answer":
            time.sleep(30)
    except TimeoutError:
        write(note)
        if do == "raise":
            raise
    else:
        write(note)
    return "answered"
"""
"""Notes when it saw its interrupt, or when it answers if it is told to."""

_WAYS: Final = {
    "answer": ("no timeout: the handler returns at once", 100),
    "return": ("interrupted; the handler catches it and returns", 15),
    "raise": ("interrupted; the handler lets it out", 15),
}


def _measure(*, quick: bool, tell: Tell) -> Found:  # noqa: ARG001 - never in short
    try:
        path = str(fetch_emulator())
    except EmulatorUnavailable as error:
        return {SKIPPED: [f"AWS's emulator: {error}"]}
    found: Found = {SKIPPED: []}
    with tempfile.TemporaryDirectory(prefix="answer-") as folder:
        Path(folder, "late.py").write_text(_APP, encoding="utf-8")
        note = Path(folder, "note")
        arguments = ["invoke", "late.handler", f"--path={folder}", "--timeout=1"]
        function = function_of(parser().parse_args(arguments))
        with Emulator(path, function, lambda _line: None) as emulator:
            _after_the_note(emulator, "answer", note)  # the start of the process
            for what, (title, samples) in _WAYS.items():
                tell(f"{title}: {samples} times")
                tries = (_after_the_note(emulator, what, note) for _ in range(samples))
                found[what] = [ms for ms in tries if ms is not None]
    return found


def _after_the_note(emulator: Emulator, do: str, note: Path) -> float | None:
    """Milliseconds from what the handler has noted to the last byte of the answer.

    None if it was cut before it had noted anything: this process had no processor for long.
    """
    note.unlink(missing_ok=True)
    event = json.dumps({"do": do, "note": str(note)}).encode()
    call = emulator.invoke(event, lambda _what, _at: None)
    if not note.exists():
        return None
    return (call.began + call.seconds - float(note.read_text())) * 1000


def _tables(found: Found) -> list[Table]:
    rows = [
        (title, str(len(found[what])), *figures_of(found[what]))
        for what, (title, _) in _WAYS.items()
        if what in found
    ]
    title = "Until the caller has the last byte, ms"
    return [Table(title, ("", "times", "p50", "p99", "max"), rows)]


PART: Final = Part(
    name="answer",
    title="From interrupt to answer",
    about="A function runs in AWS's emulator with the real awslambdaric and a limit of 1 s. It "
    "notes the monotonic clock when it sees the interrupt, and the caller notes it when it has the "
    "last byte. The time between consists of the handler's way out, the record in the log, the "
    "runtime's post and the emulator's own work; the first row has only the latter two.",
    measure=_measure,
    tables=_tables,
    is_quick=False,
)
