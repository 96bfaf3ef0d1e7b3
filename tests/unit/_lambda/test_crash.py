"""What is said about a process that has ended, or a handler that was given up on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda._lambda import crash

ENDS = [
    (0, "exited with status 0"),
    (1, "exited with status 1"),
    (-1, "killed by SIGHUP"),
    (-2, "killed by SIGINT"),
    (-6, "killed by SIGABRT"),
    (-63, "killed by signal 63"),
]


@pytest.mark.parametrize(("exit_code", "words"), ENDS)
def test_end_is_a_status_or_a_signal_by_name(exit_code: int, words: str) -> None:
    """The name is the signal's first in order, and none of another constant of that number."""
    assert crash.how(exit_code) == words


@pytest.mark.parametrize(("exit_code", "words"), ENDS)
def test_record_has_either_a_signal_or_a_status(exit_code: int, words: str) -> None:
    ended: Any = SimpleNamespace(exit_code=exit_code)
    place: Any = SimpleNamespace(location="app.py:24 (load)", stack=["app.py:24 (load)"])

    record = crash.record(ended, place, (61, 128), "answered")

    del record["timestamp"]
    assert record == {
        "level": "ERROR",
        "message": "watchdog.crash",
        "event": "watchdog.crash",
        "outcome": "answered",
        "signal": words.removeprefix("killed by ") if exit_code < 0 else None,
        "exit_status": None if exit_code < 0 else exit_code,
        "location": "app.py:24 (load)",
        "stack": ["app.py:24 (load)"],
        "memory_peak_mb": 61,
        "memory_limit_mb": 128,
    }


def test_message_about_a_stuck_handler_has_its_times_and_place() -> None:
    """The times add up to the limit; past the limit none is left."""
    said = crash.timeout_message(27.0, 0.5, "app.py:24 (load)")
    late = crash.timeout_message(30.5, -0.5, "")

    assert said == "gave up after 27.0 s, 0.5 s before the 27.5 s limit, in app.py:24 (load)"
    assert late == "gave up after 30.5 s, 0.0 s before the 30.0 s limit, in unknown"
