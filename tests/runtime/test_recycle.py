"""After a timeout that may have broken something, a new process serves the next event."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests import log_schema

from .harness import running, wrapped

if TYPE_CHECKING:
    from tests.runtime.emulator import Emulator

TIMEOUT: Final = 2
LOOK: Final = {"do": "look"}


def records(emulator: Emulator) -> list[dict[str, Any]]:
    """Return the records of the calls that were meant to time out.

    On a busy machine others may time out as well.
    """
    texts = [line.text for line in emulator.lines]
    meant = {text.split()[-1] for text in texts if "waits in " in text}
    found: list[dict[str, Any]] = [json.loads(x) for x in texts if "watchdog.timeout" in x]
    return [record for record in found if record["request_id"] in meant]


def after(do: str, **environment: str) -> tuple[bool, dict[str, Any]]:
    """Return whether another process serves the event after a timeout, and the timeout's record."""
    settings = {"WATCHDOG_LAMBDA_LAST_RESORT": "supervise", **environment}
    emulator: Emulator = wrapped(
        "leftover.handler", timeout=TIMEOUT, environment=settings, warm_up=LOOK
    )
    with running(emulator):
        before: Any = emulator.invoke(LOOK).json()
        timed_out: Any = emulator.invoke({"do": do}).json()
        now: Any = emulator.invoke(LOOK).json()
        again: Any = emulator.invoke(LOOK).json()
        emulator.wait_for_line(lambda text: "watchdog.timeout" in text)
        [record] = records(emulator)
        lines = [x.text for x in emulator.lines if "watchdog.crash" in x.text]
    assert timed_out["errorType"] == "LambdaTimeout"
    assert lines == []
    assert now == again, "only the process of the timeout is replaced"
    log_schema.check(record)
    return before["pid"] != now["pid"], record


@pytest.mark.parametrize(
    ("do", "environment", "reason"),
    [
        ("wait", {"WATCHDOG_LAMBDA_RECYCLE": "always"}, "RECYCLE=always"),
        ("library", {}, "interrupted in driver"),
        ("child", {}, "process "),
        ("thread", {}, "thread Thread-"),
        ("wait", {"WISH": "recycle"}, "an after_timeout hook has asked for it"),
    ],
)
def test_process_is_replaced_after_possible_damage(
    do: str, environment: dict[str, str], reason: str
) -> None:
    """After a timeout that may have broken something the next event is served by another process.

    The caller is answered before the replacement.
    """
    is_replaced, record = after(do, **environment)

    assert is_replaced
    assert record["recycled"].startswith(reason)
    assert record["hooks"][-1]["outcome"] == "ok"


@pytest.mark.parametrize(
    ("do", "environment"),
    [
        ("wait", {}),
        ("library", {"WATCHDOG_LAMBDA_RECYCLE": "never"}),
        ("library", {"RECOVERS": "driver"}),
        ("library", {"WISH": "keep"}),
    ],
)
def test_process_is_kept_without_sign_of_damage(do: str, environment: dict[str, str]) -> None:
    """The process is kept if nothing indicates damage, or if a setting or a hook says so."""
    is_replaced, record = after(do, **environment)

    assert not is_replaced
    assert "recycled" not in record


# ---- without a supervisor -----------------------------------------------------------------------

ALONE: Final = {
    "WATCHDOG_LAMBDA_LAST_RESORT": "report",
    "WATCHDOG_LAMBDA_TIMEOUT": "1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
}


@pytest.mark.parametrize("last_resort", ["report", "exit"])
def test_process_restarts_in_place(last_resort: str) -> None:
    """Without a supervisor the program is restarted repeatedly in the same process, warm.

    Processes that the invocation has started are ended.
    """
    emulator = wrapped(
        "leftover.handler",
        timeout=30,
        environment={**ALONE, "WATCHDOG_LAMBDA_LAST_RESORT": last_resort},
        warm_up=LOOK,
    )
    look = {"do": "look closely"}
    with running(emulator):
        looks: list[Any] = [emulator.invoke(look).json()]
        for do in ("library", "child", "library"):
            timed_out: Any = emulator.invoke({"do": do}).json()
            assert timed_out["errorType"] == "LambdaTimeout"
            looks.append(emulator.invoke(look).json())
        found = records(emulator)

    assert len({look["pid"] for look in looks}) == 1
    assert [look["served"] for look in looks] == [1, 1, 1, 1]
    assert [look["children"] for look in looks] == [0, 0, 0, 0]
    assert len({look["descriptors"] for look in looks}) == 1
    assert [record["recycled"].split()[0] for record in found] == [
        "interrupted",
        "process",
        "interrupted",
    ]


def test_process_is_kept_if_init_does_not_fit() -> None:
    """The process is kept if the init does not fit into the time that is left.

    The record says so. The init is estimated at this function's share of a processor.
    """
    small = {**ALONE, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "8"}
    is_replaced, record = after("library", **small)

    assert not is_replaced
    assert re.fullmatch(
        r"not recycled: interrupted in driver \(the init takes [\d.]+ s, [\d.]+ s are left\)",
        record["recycled"],
    )
