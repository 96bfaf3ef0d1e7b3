"""How long it takes from the interrupt until the caller has the answer, through AWS's emulator."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.surroundings import ROOT
from tools.emulator import Emulator, EmulatorUnavailable, fetch_emulator

from .interrupts import figures_of
from .parts import SKIPPED, Part
from .report import Table

if TYPE_CHECKING:
    from .parts import Found, Tell

_FOLDER: Final = Path(__file__).parent / "function"
_WAYS: Final = {
    "answer": ("no timeout: the handler returns at once", 100),
    "return": ("interrupted; the handler catches it and returns", 15),
    "raise": ("interrupted; the handler lets it out", 15),
}


def _measure(*, quick: bool, tell: Tell) -> Found:  # noqa: ARG001 - never in short
    try:
        fetch_emulator()
    except EmulatorUnavailable as error:
        return {SKIPPED: [f"AWS's emulator: {error}"]}
    found: Found = {SKIPPED: []}
    command = [sys.executable, "-m", "watchdog_lambda", "late.handler"]
    with tempfile.TemporaryDirectory(prefix="answer-") as folder:
        note = Path(folder, "note")
        event = {"do": "answer", "note": str(note)}
        environment = {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
        with Emulator(
            command, cwd=_FOLDER, timeout=1, environment=environment, warm_up=event
        ) as emulator:
            for what, (title, samples) in _WAYS.items():
                tell(f"{title}: {samples} times")
                found[what] = [
                    _after_the_note(emulator, {**event, "do": what}, note) for _ in range(samples)
                ]
    return found


def _after_the_note(emulator: Emulator, event: dict[str, Any], note: Path) -> float:
    """Milliseconds from what the handler has noted to the last byte of the answer."""
    began = time.monotonic()
    response = emulator.invoke(event)
    return (began + response.seconds - float(note.read_text())) * 1000


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
    goals=lambda _found: [],
    ratios=lambda _found: [],
    is_quick=False,
)
