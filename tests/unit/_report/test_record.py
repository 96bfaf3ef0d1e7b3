"""Tests of the record's contents, to the millisecond, and of the cuts in a long one."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import Broken, plan
from watchdog_lambda import TimeoutDetails
from watchdog_lambda._engine.clock import Timeline
from watchdog_lambda._engine.stage import HookRecord
from watchdog_lambda._report import record
from watchdog_lambda._report.record import (
    MOST_BYTES,
    build,
    fitted,
    obstacle,
)

# ---- the whole of it ---------------------------------------------------------------------------


def firing(**changed: Any) -> Any:
    """The contents of a record: a timeout in the 30th second of a function of 30 s."""
    details = TimeoutDetails(
        request_id="request-1",
        function_name="orders",
        deadline=130.0,
        elapsed=27.0,
        grace_period=3.0,
        stack=("app.py:1 (handler)", "app.py:9 (work)"),
        location="app.py:9 (work)",
    )
    hook = HookRecord("app.flush")
    hook.started, hook.duration, hook.outcome = 27.25, 0.5, "ok"
    landed = SimpleNamespace(name="LambdaTimeout", at=27.5, landed_at=27.75, place="app.py:9")
    pending = SimpleNamespace(name="Interrupt", at=28.0, landed_at=None, place="app.py:7")
    policy = SimpleNamespace(
        records=[landed, pending],
        left_out=0,
        is_waiting=False,
        outcome=lambda interrupt: "swallowed" if interrupt is landed else "pending",
    )
    parts: dict[str, Any] = {
        "details": details,
        "timeline": Timeline(30.0, grace_period=3.0, hook_budget=None, last_call=0.5),
        "policy": policy,
        "invocation": SimpleNamespace(context=SimpleNamespace(function_version=7), plan=plan()),
        "other_stacks": {"poller": ("lib.py:3 (wait)",)},
        "ended_at": 28.5,
        "stages": [SimpleNamespace(records=[hook])],
        "delivery": "nudge",
        "may_interrupt": True,
        "fallback_error": None,
        "severed": [],
        "after": [],
        "recycled": None,
        "samples": None,
        "services": SimpleNamespace(nudge=nudge()),
    }
    return SimpleNamespace(**{**parts, **changed})


def nudge(*, refusal: str | None = None, number: int | None = 10, ours: bool = True) -> Any:
    return SimpleNamespace(refusal=refusal, number=number, is_ours=lambda: ours)


def test_record_has_instants_in_milliseconds_since_start() -> None:
    """The record of a timeout has every instant in milliseconds since the start."""
    assert build(firing(), "raised", 29.0) == {
        "event": "watchdog.timeout",
        "outcome": "raised",
        "request_id": "request-1",
        "function_name": "orders",
        "function_version": "7",
        "elapsed_ms": 29_000,
        "remaining_ms": 1_000,
        "grace_period_ms": 3_000,
        "location": "app.py:9 (work)",
        "stack": ("app.py:1 (handler)", "app.py:9 (work)"),
        "threads": {"poller": ("lib.py:3 (wait)",)},
        "ended_after_ms": 28_500,
        "hooks": [{"name": "app.flush", "outcome": "ok", "after_ms": 27_250, "duration_ms": 500.0}],
        "interrupts": [
            {
                "exception": "LambdaTimeout",
                "outcome": "swallowed",
                "after_ms": 27_500,
                "landed_after_ms": 27_750,
                "location": "app.py:9",
            },
            {
                "exception": "Interrupt",
                "outcome": "pending",
                "after_ms": 28_000,
                "landed_after_ms": None,
                "location": "app.py:7",
            },
        ],
    }


def test_unknown_values_are_empty() -> None:
    """Unknown values are empty.

    Before the first look there are no details, and a stuck handler has not ended.
    """
    record = build(firing(details=None, ended_at=None), "stuck", 29.0)

    assert (record["request_id"], record["function_name"], record["location"]) == ("", "", "")
    assert (record["stack"], record["ended_after_ms"]) == ((), None)


def test_optional_keys_are_present_only_where_they_apply() -> None:
    """Optional keys are in the record only where they apply.

    They are for interrupts left out, an obstacle, a last resort, severed waits, samples, and a
    fallback that has failed.
    """
    samples = SimpleNamespace(taken=3, summary=lambda code: {"samples": 3, "code": code})
    hindered = firing(delivery="injection", samples=samples, code="the user's")
    hindered.fallback_error = "KeyError in app.py:3 (fallback)"
    hindered.policy.left_out = 3
    hindered.severed.append("10.0.0.5:5432")
    hindered.recycled = "severed 10.0.0.5:5432"

    record = build(hindered, "stuck", 29.0, last_resort="exit")

    assert record["interrupts_left_out"] == 3
    assert record["obstacle"].startswith("no nudge")
    assert record["last_resort"] == "exit"
    assert record["severed"] == ["10.0.0.5:5432"]
    assert record["recycled"] == "severed 10.0.0.5:5432"
    assert record["time_spent"] == {"samples": 3, "code": "the user's"}
    assert record["fallback_error"] == "KeyError in app.py:3 (fallback)"


# ---- the obstacle ------------------------------------------------------------------------------

INJECTED = "no nudge ({}): an interrupt lands only once a blocked call has returned"


@pytest.mark.parametrize(
    ("changed", "outcome", "said"),
    [
        ({}, "raised", None),
        (
            {"delivery": "injection"},
            "raised",
            INJECTED.format("the handler is not on the main thread"),
        ),
        (
            {
                "delivery": "injection",
                "services": SimpleNamespace(nudge=nudge(number=None, ours=False)),
            },
            "raised",
            INJECTED.format("the handler is not on the main thread"),
        ),
        (
            {"delivery": "injection", "services": SimpleNamespace(nudge=nudge(ours=False))},
            "raised",
            INJECTED.format("other code has taken over the wake signal"),
        ),
        (
            {"delivery": "injection", "services": SimpleNamespace(nudge=nudge(refusal="in use"))},
            "raised",
            INJECTED.format("in use"),
        ),
        ({"delivery": "none", "may_interrupt": False}, "returned", "a durable function: "),
        (
            {"delivery": "none", "services": SimpleNamespace(nudge=nudge(refusal="in use"))},
            "stuck",
            "nothing can interrupt it: no nudge (in use), no ctypes",
        ),
    ],
)
def test_obstacle_names_the_reason(changed: dict[str, Any], outcome: str, said: str | None) -> None:
    """The obstacle gives the reason why an interrupt was delayed, and is None with the nudge."""
    why = obstacle(firing(**changed), outcome)

    assert why is None if said is None else (why or "").startswith(said)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("stuck", "C code held the GIL, so the watchdog could not run until now"),
        ("returned", "the handler ended before an interrupt was due"),
    ],
)
def test_obstacle_can_precede_the_first_interrupt(outcome: str, said: str) -> None:
    """An obstacle can precede the first interrupt.

    The hooks had not ended, or the watchdog could not run.
    """
    waiting = firing(delivery="none")
    waiting.policy.is_waiting = True

    assert obstacle(waiting, outcome) == said


def test_no_obstacle_without_a_wanted_interrupt() -> None:
    """There is no obstacle if the setting asks for no interrupt."""
    invocation = SimpleNamespace(plan=plan(interrupt="none"))

    assert (
        obstacle(firing(delivery="none", may_interrupt=False, invocation=invocation), "stuck")
        is None
    )


# ---- the user's objects ------------------------------------------------------------------------


def test_unserialisable_objects_are_written_as_text() -> None:
    """Objects that JSON does not know are written as text.

    Level, message and timestamp come first.
    """
    line = json.loads(record.dumps({"outcome": Broken()}))

    assert list(line) == ["level", "message", "timestamp", "outcome"]
    assert (line["level"], line["message"]) == ("ERROR", "watchdog.timeout")
    assert line["outcome"] == "<Broken>"


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (1_700_000_001.0429, "2023-11-14T22:13:21.042Z"),
        (1_700_000_000.9879, "2023-11-14T22:13:20.987Z"),
    ],
)
def test_timestamp_is_utc_with_milliseconds(
    now: float, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timestamp is in UTC, with three digits of milliseconds that are rounded down."""
    monkeypatch.setattr(time, "time", lambda: now)

    assert record.timestamp() == told


# ---- records that are too long -----------------------------------------------------------------

LONG = "b" * 66 + "m" * 1_000 + "e" * 134
"""A text whose first 66 and last 134 characters differ from its middle."""


def test_bound_is_pipe_capacity_with_one_page_in_use() -> None:
    """The bound is what a pipe takes with one page in use, because a longer line could block."""
    assert MOST_BYTES == 61_440


def long_record() -> dict[str, Any]:
    return {
        "outcome": "stuck",
        "location": LONG,
        "request_id": "r" * 200,
        "stack": tuple(f"s{n}" for n in range(150)),
        "threads": {f"t{n}": tuple(f"p{m}" for m in range(9)) for n in range(40)},
        "hooks": [{"name": f"h{n}", LONG: n} for n in range(21)],
        "interrupts": [{"at": n} for n in range(25)],
    }


def cut(times: int) -> tuple[list[dict[str, Any]], bytes]:
    """Return the cuts that are tried for a record, and the line that results.

    So many attempts are too long.
    """
    tried: list[dict[str, Any]] = []

    def make(record: dict[str, Any]) -> bytes:
        tried.append(record)
        return b"x" * (MOST_BYTES + 1 if len(tried) <= times else MOST_BYTES)

    line = fitted(long_record(), make)
    return tried, line


def test_record_that_fits_is_not_cut() -> None:
    """A record that fits exactly is not cut."""
    tried, line = cut(0)

    assert tried == [long_record()]
    assert len(line) == MOST_BYTES


def test_first_cut_keeps_innermost_frames_and_both_ends() -> None:
    """The first cut keeps innermost frames, and both ends of lists and texts.

    It keeps the handler's 100 frames, 30 threads with 5 each, 20 entries and 200 characters.
    """
    (_, record), _ = cut(1)

    shortened = "b" * 66 + "..." + "e" * 134
    first_and_last_hooks = [*range(10), *range(11, 21)]
    first_and_last = [*range(10), *range(15, 25)]
    assert record == {
        "outcome": "stuck",
        "location": shortened,
        "request_id": "r" * 200,
        "stack": [f"s{n}" for n in range(50, 150)],
        "threads": {f"t{n}": [f"p{m}" for m in range(4, 9)] for n in range(30)},
        "hooks": [{"name": f"h{n}", shortened: n} for n in first_and_last_hooks],
        "interrupts": [{"at": n} for n in first_and_last],
        "shortened": True,
    }


def test_short_lists_stay_whole() -> None:
    """Lists that are short enough stay whole if another part was too long."""
    record = {**long_record(), "hooks": [{"name": "only"}], "interrupts": [1] * 20}
    tried: list[dict[str, Any]] = []

    def make(entry: dict[str, Any]) -> bytes:
        tried.append(entry)
        return b"x" * (MOST_BYTES + 2 - len(tried))

    fitted(record, make)

    assert tried[1]["hooks"] == [{"name": "only"}]
    assert tried[1]["interrupts"] == [1] * 20


@pytest.mark.parametrize(
    ("times", "threads", "kept"),
    [(2, (10, 5), (40, 10, 150)), (3, (0, 0), (20, 4, 100)), (4, (0, 0), (0, 0, 80))],
)
def test_further_cuts_keep_less(
    times: int, threads: tuple[int, int], kept: tuple[int, int, int]
) -> None:
    """Each further cut is made from the whole record and keeps less.

    The record's own fields are kept to the end.
    """
    (most_threads, frames), (stack, entries, characters) = threads, kept
    tried, line = cut(times)
    record = tried[-1]

    assert len(tried) == times + 1
    assert len(line) == MOST_BYTES
    assert {len(places) for places in record["threads"].values()} <= {frames}
    assert len(record["threads"]) == most_threads
    assert record["stack"] == [f"s{n}" for n in range(150 - stack, 150)]
    assert len(record["hooks"]) == len(record["interrupts"]) == entries
    assert len(record["location"]) == characters + len("...")
    assert (record["outcome"], record["shortened"]) == ("stuck", True)


def test_record_too_long_after_every_cut_raises() -> None:
    """A record that is too long after every cut is an error.

    A user's formatter adds more than the bound.
    """
    with pytest.raises(OverflowError):
        cut(5)
