"""After a timeout a fresh process serves the next event, where something may be broken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests import log_schema

from .harness import running, wrapped

if TYPE_CHECKING:
    from tests.runtime.emulator import Emulator

TIMEOUT: Final = 2
LOOK: Final = {"do": "look"}


def after(do: str, **environment: str) -> tuple[bool, dict[str, Any]]:
    """Whether another process serves the next event after a timeout, and the record of that."""
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
        [record] = [json.loads(x.text) for x in emulator.lines if "watchdog.timeout" in x.text]
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
def test_the_process_is_replaced(do: str, environment: dict[str, str], reason: str) -> None:
    """The caller has its answer before that, and the next one is served."""
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
def test_the_process_is_kept(do: str, environment: dict[str, str]) -> None:
    """Nothing is suspected, or somebody knows better."""
    is_replaced, record = after(do, **environment)

    assert not is_replaced
    assert "recycled" not in record


def test_without_a_supervisor_it_is_kept_and_the_record_says_so() -> None:
    """Nobody else could replace it."""
    is_replaced, record = after("library", WATCHDOG_LAMBDA_LAST_RESORT="report")

    assert not is_replaced
    assert record["recycled"] == (
        "not recycled: interrupted in driver "
        "(only a supervisor can replace the process; set LAST_RESORT=supervise)"
    )
