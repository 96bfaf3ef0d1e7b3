"""A handler with child processes is answered in time, and the children are not affected."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from .harness import bare, call, log_shown, running, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.runtime.emulator import Emulator

TIMEOUT: Final = 3
FIRES_AT: Final = TIMEOUT * 3 / 4
SLACK: Final = 0.3
BOUND: Final = 10.0

METHODS: Final = ("fork", "spawn", "forkserver")
CASES: Final = [("fork", "fork")] + [
    (how, method) for how in ("process", "pool", "executor") for method in METHODS
]


@pytest.fixture(scope="module")
def function() -> Iterator[Emulator]:
    """Start one function for all cases.

    Each case runs in the process that the last one has left.
    """
    with running(wrapped("processes.handler", timeout=TIMEOUT, warm_up={})) as emulator:
        yield emulator


def seen(file: Path) -> dict[str, Any]:
    """Return what the child has written."""
    until = time.monotonic() + BOUND
    while not file.exists():
        assert time.monotonic() < until, f"no child has written {file}"
        time.sleep(0.01)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_watchdog_runs_before_the_first_invocation() -> None:
    """The watchdog's thread is started during the init, when the function has a whole processor."""
    with running(wrapped("processes.handler")) as emulator:
        assert call(emulator, {}).answer["threads"] == 2


@pytest.mark.parametrize(("how", "method"), CASES)
def test_parent_is_answered_in_time_while_child_continues(
    function: Emulator, tmp_path: Path, how: str, method: str
) -> None:
    """The parent is answered in time, and its child goes on.

    A child that ends in time returns its result, and one that does not is not affected by the
    timeout.
    """
    short = {"how": how, "method": method, "seconds": 0.05, "file": str(tmp_path / "short")}
    # The work lasts beyond the interrupt in the parent, with half a second for the start.
    long = {**short, "seconds": FIRES_AT + 0.3, "file": str(tmp_path / "long")}
    with log_shown(function, since=len(function.lines)):
        before = call(function, {}).answer["pid"]
        ended = call(function, short)
        timed_out = call(function, long)
        after = call(function, {}).answer["pid"]

        undisturbed = {"threads": 1, "error": None}
        assert seen(tmp_path / "short") == undisturbed
        result = undisturbed if how in {"pool", "executor"} else None
        assert ended.answer["result"] == result
        # From 3.12 on Python warns of a fork in a process with other threads, which includes ours.
        warned = ["multi-threaded" in warning for warning in ended.answer["warnings"]]
        assert warned == [True] * (method == "fork" and sys.version_info >= (3, 12))
        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert FIRES_AT - 0.05 < timed_out.response.seconds < FIRES_AT + SLACK
        assert len(timed_out.reports) == 1
        assert before == after
        if how == "pool":  # a pool ends its workers when its block is left
            assert not (tmp_path / "long").exists()
        else:
            assert seen(tmp_path / "long") == undisturbed


def test_child_processes_behave_the_same_without_the_package(tmp_path: Path) -> None:
    """Without the package the same work has the same result: it is the standard library's own."""
    with running(bare("processes.handler", timeout=TIMEOUT, warm_up={})) as plain:
        for how, method in CASES:
            file = tmp_path / f"{how}-{method}"
            event = {"how": how, "method": method, "seconds": 0.05, "file": str(file)}
            undisturbed = {"threads": 1, "error": None}
            result = undisturbed if how in {"pool", "executor"} else None
            assert call(plain, event).answer == {"result": result, "warnings": []}
            assert seen(file) == undisturbed
