"""Tests of the soak's short form, and that it finds the defects that it should."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from . import ROOT, command, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak


# Python loads this at the start of the soak's processes. It injects an interrupt after a
# handler's end, as if settle had not withdrawn one.
SABOTAGE: Final = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from watchdog_lambda import LambdaTimeout, _handler
from watchdog_lambda._process import process_watchdog
conclude = _handler.conclude
def leave_one_behind(firing, *rest):
    outcome = conclude(firing, *rest)
    process_watchdog.injector.inject(firing.thread_id, LambdaTimeout)
    return outcome
_handler.conclude = leave_one_behind
"""


@pytest.mark.parametrize("only", [(), ("--only=blocks",)], ids=["invocations", "blocks"])
@pytest.mark.parametrize("delivery", ["nudge", "injection"])
def test_settle_race_neither_leaks_nor_loses_results(
    delivery: str, only: tuple[str, ...], tmp_path: Path
) -> None:
    """Nothing lands outside of its invocation or block, and no finished result is lost.

    The figures for the documentation are those that were printed.
    """
    file = tmp_path / "soak.json"
    bounds = ("--invocations=1500", "--seconds-cap=8", f"--save={file}")

    done = run("soak", f"--delivery={delivery}", *bounds, *only)

    assert done.returncode == 0, done.stdout
    kept = json.loads(file.read_text(encoding="utf-8"))
    [cell] = kept["cells"]
    assert done.stdout.splitlines()[-1] == kept["verdict"]
    for row, value in cell["rows"].items():
        assert re.search(rf"^{re.escape(row)} +{re.escape(value)}$", done.stdout, re.MULTILINE), row
    close = sum(sum(n[10:30]) for what, n in cell["distances"].items() if what.startswith("fired"))
    assert f"{close:,}" == cell["rows"]["woke within 50 us of the end"]


def test_leaked_interrupt_is_detected(tmp_path: Path) -> None:
    """The soak fails if an interrupt is still on its way when the invocation has settled."""
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)

    done = run(
        "soak",
        "--delivery=injection",
        "--invocations=600",
        "--seconds-cap=8",
        PYTHONPATH=str(tmp_path),
    )

    assert done.returncode == 1, done.stdout
    assert "a finished result was lost" in done.stdout


def test_ctrl_c_prints_partial_results() -> None:
    """At Ctrl-C the soak prints its table so far, and says that it was interrupted."""
    with subprocess.Popen(
        command("soak", "--delivery=nudge"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        running.stderr.readline()  # wait for its first line of progress
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate()

    assert running.returncode == 130
    assert re.search(r"^invocations +[\d,]+$", output, re.MULTILINE), output
    assert "interrupted" in output.splitlines()[-1]


def test_missing_interpreter_is_an_error() -> None:
    """A missing interpreter is an error, because nothing can be run with it."""
    done = run("soak", "--interpreter=/nowhere/python")

    assert done.returncode == 2
    assert "SKIPPED: /nowhere/python" in done.stdout
