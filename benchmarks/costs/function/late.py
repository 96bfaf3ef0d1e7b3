"""The function that is invoked through the emulator: notes when it saw its interrupt."""

import time
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], _context: object) -> str:
    """Wait to be interrupted, unless told to answer; the instant goes into a file."""
    raises = event["do"] == "raise"
    try:
        if event["do"] != "answer":
            time.sleep(30)
    except TimeoutError:
        _note(event, time.monotonic())
        if raises:
            raise
    else:
        _note(event, time.monotonic())
    return "answered"


def _note(event: dict[str, Any], at: float) -> None:
    Path(event["note"]).write_text(repr(at))
