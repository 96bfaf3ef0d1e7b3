"""A handler whose names, lines and answers would steer the terminal that they are shown on."""

from __future__ import annotations

import time
from typing import Any

from watchdog_lambda import TimeoutDetails, shutdown_hook

STEERS = "\x1b]0;title\x07\x1b[2J\x9b2J\x85\u2028"


def hook(_details: TimeoutDetails) -> None:
    """Be shown in the timeline, by name."""


hook.__qualname__ = f"hook{STEERS}"
shutdown_hook(hook)


def handler(event: dict[str, Any], _context: object) -> Any:
    """Write and answer what was asked for."""
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
    """A class instead of a handler: a mistake."""

    def __init__(self, event: object, context: object) -> None:
        self.event, self.context = event, context


class Answer(dict[str, object]):
    """Its instances are answers."""

    def __init__(self, event: object, _context: object) -> None:
        super().__init__(event=event)
