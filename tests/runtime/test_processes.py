"""Handlers with other processes: the parent is answered in time, children notice nothing."""

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
    """One function for all, so that what one leaves behind the next one meets."""
    with running(wrapped("processes.handler", timeout=TIMEOUT, warm_up={})) as emulator:
        yield emulator


def seen(file: Path) -> dict[str, Any]:
    """What the child has left behind."""
    until = time.monotonic() + BOUND
    while not file.exists():
        assert time.monotonic() < until, f"no child has written {file}"
        time.sleep(0.01)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_the_first_invocation_finds_the_watchdog_running() -> None:
    """Its thread is started while the init has a whole processor."""
    with running(wrapped("processes.handler")) as emulator:
        assert call(emulator, {}).answer["threads"] == 2


@pytest.mark.parametrize(("how", "method"), CASES)
def test_parent_is_answered_in_time_and_the_child_goes_on(
    function: Emulator, tmp_path: Path, how: str, method: str
) -> None:
    """Work that ends in time does; of work that does not, the child never learns of the timeout."""
    short = {"how": how, "method": method, "seconds": 0.05, "file": str(tmp_path / "short")}
    # Beyond the interrupt in the parent, but for a start of half a second.
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
        # From 3.12 on Python warns of a fork beside any other thread, and so beside ours.
        warned = ["multi-threaded" in warning for warning in ended.answer["warnings"]]
        assert warned == [True] * (method == "fork" and sys.version_info >= (3, 12))
        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert FIRES_AT - 0.05 < timed_out.response.seconds < FIRES_AT + SLACK
        assert len(timed_out.reports) == 1
        assert before == after
        if how == "pool":  # it ends its workers when it is left
            assert not (tmp_path / "long").exists()
        else:
            assert seen(tmp_path / "long") == undisturbed


def test_without_the_package_the_same_work_ends_the_same_way(tmp_path: Path) -> None:
    """The results above are the standard library's own."""
    with running(bare("processes.handler", timeout=TIMEOUT, warm_up={})) as plain:
        for how, method in CASES:
            file = tmp_path / f"{how}-{method}"
            event = {"how": how, "method": method, "seconds": 0.05, "file": str(file)}
            undisturbed = {"threads": 1, "error": None}
            result = undisturbed if how in {"pool", "executor"} else None
            assert call(plain, event).answer == {"result": result, "warnings": []}
            assert seen(file) == undisturbed
