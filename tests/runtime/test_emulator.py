"""The tests' emulator ends all the processes that it starts, and reports what it has observed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.runtime.emulator import Emulator, EmulatorError

from .harness import bare, call, running

HANDLER = """
import os, subprocess
def handler(event, context):
    if "say" in event:
        print(event["say"] * 1_000_000)
    child = subprocess.Popen(["sleep", "60"]) if "spawn" in event else None
    return [os.getpid(), child and child.pid]
"""


@pytest.fixture
def function(tmp_path: Path) -> Emulator:
    """Make a function, not started yet, that does what its event says."""
    (tmp_path / "obedient.py").write_text(HANDLER, encoding="utf-8")
    return bare("obedient.handler", cwd=tmp_path)


def is_running(pid: int) -> bool:
    """Return whether there is such a process, other than a zombie."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_close_leaves_nothing_behind(function: Emulator) -> None:
    """close() ends the emulator, the function and the processes that the function has started."""
    with running(function):
        pids = function.invoke({"spawn": True}).json()
        assert isinstance(pids, list)
        assert all(map(is_running, pids))

    assert not any(map(is_running, pids))
    function.close()


def test_close_after_emulator_crash_leaves_nothing_behind(function: Emulator) -> None:
    """If the emulator crashes, its children survive it, and close() ends them all the same."""
    with running(function):
        pids = function.invoke({"spawn": True}).json()
        assert isinstance(pids, list)
        assert function.pid is not None
        os.kill(function.pid, signal.SIGKILL)
        with pytest.raises(EmulatorError, match="the emulator has ended"):
            function.invoke({})

    assert not any(map(is_running, pids))


def test_flood_of_output_does_not_block_the_function(function: Emulator) -> None:
    """Output that exceeds a pipe's capacity is read while it is written, and none of it is lost."""
    with running(function):
        flooding = call(function, {"say": "x"})

        assert flooding.answer
        assert "x" * 1_000_000 in flooding.lines


def test_waiting_for_a_line_is_bounded(function: Emulator) -> None:
    """Waiting for a line of the log is bounded, and the error shows the log."""
    with running(function):
        function.invoke({"say": "y"})

        start = time.monotonic()
        with pytest.raises(EmulatorError, match="yyy"):
            function.wait_for_line(lambda text: text == "z", timeout=0.1)
        assert time.monotonic() - start < 1


def test_failing_warm_up_raises(tmp_path: Path) -> None:
    """A warm-up that ends the function's process raises at the start, and shows the log."""
    function = bare("no_such_module.handler", cwd=tmp_path, warm_up={})

    with pytest.raises(EmulatorError, match="No module named 'no_such_module'"):
        function.start()

    assert not function.is_running


def test_timeout_below_a_second_is_refused() -> None:
    """A timeout below a second is refused.

    The emulator knows whole seconds only, and takes 0 for its default of 300.
    """
    with pytest.raises(ValueError, match="timeout=0"):
        Emulator(["true"], timeout=0)
