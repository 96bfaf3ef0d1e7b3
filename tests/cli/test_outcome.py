"""Tests of an invocation's outcome, which is derived from the answer, the log and the record."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from watchdog_lambda.cli.function import Invocation
from watchdog_lambda.cli.log import Line
from watchdog_lambda.cli.outcome import (
    EXIT_STATUS,
    drawn,
    in_words,
    outcome_of,
    phases,
    time_spent,
)

BEGAN = 1000.0
RECORD: dict[str, Any] = {
    "event": "watchdog.timeout",
    "outcome": "returned",
    "elapsed_ms": 2500,
    "ended_after_ms": 2480,
    "hooks": [
        {"name": "app.early", "outcome": "ok", "after_ms": 500, "duration_ms": 10.0},
        {"name": "app.flush", "outcome": "timed-out", "after_ms": 2250, "duration_ms": 20.0},
        {"name": "app.late", "outcome": "not-run", "after_ms": None, "duration_ms": 0.0},
    ],
    "interrupts": [
        {
            "exception": "LambdaTimeout",
            "outcome": "swallowed",
            "after_ms": 2270,
            "landed_after_ms": 2271,
        },
        {
            "exception": "Interrupt",
            "outcome": "delivered",
            "after_ms": 2290,
            "landed_after_ms": 2300,
        },
    ],
}


def invocation(
    kind: Literal["response", "error", "killed"] = "response",
    seconds: float = 2.53,
    record: dict[str, Any] | None = None,
    **more: Any,
) -> Invocation:
    lines = more.pop("lines", [Line(BEGAN + 0.1, "watchdog.timeout is not always a record")])
    if record is not None:
        # This is 20 ms after the watchdog's own clock started.
        lines.append(Line(BEGAN + record["elapsed_ms"] / 1000 + 0.02, json.dumps(record)))
    return Invocation("{}", kind, seconds, BEGAN, lines=lines, **more)


@pytest.mark.parametrize(
    ("found", "outcome", "status"),
    [
        (invocation(), "answered", 0),
        (invocation("error"), "failed", 1),
        (invocation(record=RECORD), "caught", 3),
        (invocation("error", record=RECORD), "caught", 3),
        (invocation("killed"), "killed", 4),
        (invocation("killed", record=RECORD), "killed", 4),
    ],
)
def test_outcome_and_exit_status(found: Invocation, outcome: str, status: int) -> None:
    """A kill is a kill whatever was recorded before.

    Otherwise the record determines outcome and exit status.
    """
    assert outcome_of(found) == outcome
    assert EXIT_STATUS[outcome_of(found)] == status


CRASH: dict[str, Any] = {
    "event": "watchdog.crash",
    "outcome": "answered",
    "signal": "SIGSEGV",
    "exit_status": None,
    "location": "app.py:24 (load)",
    "memory_peak_mb": 61,
    "memory_limit_mb": 128,
}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "killed by SIGSEGV in app.py:24 (load), memory peaked at 61 of 128 MB"),
        (
            {"signal": None, "exit_status": 7, "location": "", "memory_limit_mb": None},
            "exited with status 7, memory peaked at 61 MB",
        ),
    ],
)
def test_crash_is_shown_with_the_callers_error(more: dict[str, Any], words: str) -> None:
    """A crash is shown with the caller's error, and the sandbox is kept."""
    found = invocation("error", 1.25, lines=[Line(BEGAN, json.dumps(CRASH | more))])

    assert (outcome_of(found), EXIT_STATUS[outcome_of(found)]) == ("crashed", 1)
    assert in_words(found, 3.0) == (
        (
            f"crashed after 1.25 s: {words}; the caller has an error, and a fresh process serves "
            "the next event"
        ),
        "red",
    )


def test_unanswered_crash_is_a_failure() -> None:
    """A crash in the init, where no invocation could be answered for, is a failure."""
    found = invocation("error", 1.25, lines=[Line(BEGAN, json.dumps(CRASH | {"outcome": "init"}))])

    assert outcome_of(found) == "failed"


def spans(found: Invocation) -> list[tuple[str, float, float]]:
    return [(p.name, round(p.start, 3), round(p.end, 3)) for p in phases(found, 3.0)]


def test_phases_come_from_the_record() -> None:
    """The phases are those of the record, whose times count from the handler's start.

    Hooks that did not run are left out.
    """
    assert spans(invocation(record=RECORD)) == [
        ("running", 0.0, 2.32),
        ("hook", 0.52, 0.53),
        ("hook", 2.27, 2.29),
        ("interrupt", 2.291, 2.291),
        ("interrupt", 2.32, 2.32),
        ("cleanup", 2.32, 2.5),
        ("settle", 2.5, 2.53),
        ("left", 2.53, 3.0),
    ]


def test_failed_hook_and_fallback_are_shown_with_error() -> None:
    """A hook or fallback that failed is shown with the type and place that the record has."""
    hook = {**RECORD["hooks"][0], "outcome": "raised", "error": "KeyError in app.py:7 (flush)"}
    failed = {"hooks": [hook], "fallback_error": "TypeError in app.py:9 (answer)"}
    found = invocation("error", record=RECORD | failed)

    [phase] = [phase for phase in phases(found, 3.0) if phase.name == "hook"]
    words, style = in_words(found, 3.0)

    assert phase.text == f"{hook['name']}: raised KeyError in app.py:7 (flush)"
    assert words.endswith("; the fallback failed: TypeError in app.py:9 (answer)")
    assert style == "yellow"


def test_stuck_handler_runs_until_the_kill() -> None:
    """A stuck handler ran until the kill, since no end is known.

    Interrupts that have not landed are shown where they were sent.
    """
    pending = {**RECORD["interrupts"][0], "landed_after_ms": None, "outcome": "pending"}
    record = RECORD | {"ended_after_ms": None, "interrupts": [pending], "hooks": []}

    assert spans(invocation("killed", 3.1, record)) == [
        ("running", 0.0, 3.0),
        ("interrupt", 2.29, 2.29),
        ("killed", 3.0, 3.0),
    ]


def test_init_that_counts_precedes_the_handler() -> None:
    """With AWS's emulator the start precedes the handler on the timeline.

    Without it there is none.
    """
    counted = invocation(init_seconds=0.2, init_counts=True, seconds=0.5)
    apart = invocation(init_seconds=0.2, seconds=0.5)

    assert spans(counted) == [("init", 0, 0.2), ("running", 0.2, 0.5), ("left", 0.5, 3)]
    assert spans(apart) == [("running", 0, 0.5), ("left", 0.5, 3)]


def test_init_beyond_the_timeout_leaves_no_running_time() -> None:
    """A start that takes all the time leaves the handler none, and never less than none.

    It may have failed late.
    """
    found = invocation("error", 4.7, init_seconds=4.7, init_counts=True)

    assert spans(found) == [("init", 0, 3), ("running", 3, 3), ("left", 3, 3)]


def test_many_interrupts_share_a_row() -> None:
    """The many interrupts of a handler that swallows all of them share a row."""
    record = RECORD | {"interrupts": [RECORD["interrupts"][0]] * 4 + [RECORD["interrupts"][1]]}

    lines = ["".join(p.text for p in line) for line in drawn(invocation(record=record), 3.0, 100)]

    [row] = [line for line in lines if line.startswith("interrupt")]
    assert "5, the last Interrupt" in row


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (invocation(seconds=0.002), "answered after 2 ms"),
        (
            invocation(record=RECORD),
            (
                "timed out and caught: the caller has an answer after 2.53 s, 0.47 s before the "
                "hard deadline"
            ),
        ),
        (invocation("killed", 3.1), "killed at the hard deadline of 3 s"),
        (
            invocation("killed", 10.0, init_seconds=10.0, init_counts=True),
            "killed: the start did not end within 10.0 s",
        ),
        (invocation("error", 0.5), "failed after 0.50 s: an error"),
    ],
)
def test_outcome_is_described_in_one_line(found: Invocation, words: str) -> None:
    """An outcome is shown as one line of text."""
    assert in_words(found, 3.0)[0] == words


def test_time_spent_is_shown_below_the_timeline() -> None:
    """The time spent is shown below the timeline by line, with what each line had called."""
    lines = [
        {"location": "app.py:41 (load_rows)", "in": "connection.py:117 (wait)", "share": 0.85},
        {"location": "app.py:47 (store)", "share": 0.15},
    ]
    spent = {"samples": 20, "from_ms": 1500, "to_ms": 2210, "lines": lines}

    found = time_spent(invocation(record={**RECORD, "time_spent": spent}), 160)

    head, first, second = ("".join(part.text for part in line) for line in found)
    assert head == "where the time went from 1.50 to 2.21 s, by 20 samples:"
    assert "85%  ####" in first
    assert first.endswith("  app.py:41 (load_rows), in connection...")
    assert second.endswith("  app.py:47 (store)")
    assert time_spent(invocation(record=RECORD), 160) == []
    assert time_spent(invocation(), 160) == []
