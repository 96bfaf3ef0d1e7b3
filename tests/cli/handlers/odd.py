"""A handler whose names, output and answers could control the terminal."""

from __future__ import annotations

import time
from typing import Any

from watchdog_lambda import TimeoutDetails, shutdown_hook

STEERS = "\x1b]0;title\x07\x1b[2J\x9b2J\x85\u2028"


def hook(_details: TimeoutDetails) -> None:
    """A hook whose name is shown in the timeline."""


hook.__qualname__ = f"hook{STEERS}"
shutdown_hook(hook)


def handler(event: dict[str, Any], _context: object) -> Any:
    """Print and return what the event asks for."""
    print(f"said {STEERS}", flush=True)
    if event["do"] == "raise":
        raise ValueError(STEERS)
    try:
        time.sleep(60)
    except TimeoutError:
        pass
    return {STEERS: [STEERS]}


handler.__qualname__ = f"handler{STEERS}"


class Handler:
    """A class that is given as the handler by mistake."""

    def __init__(self, event: object, context: object) -> None:
        self.event, self.context = event, context


class Answer(dict[str, object]):
    """A class whose instances are answers."""

    def __init__(self, event: object, _context: object) -> None:
        super().__init__(event=event)
