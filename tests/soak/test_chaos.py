"""Each condition of the chaos run is applied for a moment, and a defect is found under it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from . import ROOT, command, run
from .test_soak import SABOTAGE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak


@pytest.mark.timeout(300)  # a quarter of a minute on a machine that is not busy
def test_no_violation_under_any_condition() -> None:
    """Nothing fails under any condition in half a second each.

    A condition that this machine cannot have is reported.
    """
    done = run("soak.chaos", "--seconds=0.5")

    assert done.returncode == 0, done.stdout
    told = re.findall(r"^(?:SKIPPED: )?[\d.]+ (\w[\w ]*?)(?::| \()", done.stdout, re.MULTILINE)
    listed = re.findall(r"^(\S+(?: \S+)*)  +", run("soak.chaos", "--list").stdout, re.MULTILINE)
    assert told == listed
    skipped = {"monitoring"} if sys.version_info < (3, 12) else set()
    assert set(re.findall(r"^SKIPPED: [\d.]+ (\w+)", done.stdout, re.MULTILINE)) == skipped


def test_leaked_interrupt_is_detected(tmp_path: Path) -> None:
    """An interrupt that is left behind is found under a condition as well."""
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)

    done = run(
        "soak.chaos",
        "--condition=clock",
        "--delivery=injection",
        "--seconds=2",
        "--seed=7",
        PYTHONPATH=str(tmp_path),
    )

    assert done.returncode == 1, done.stdout
    assert "VIOLATION: " in done.stdout
    assert "--seed 7" in done.stdout.splitlines()[-1]


def test_ctrl_c_prints_partial_results() -> None:
    """At Ctrl-C the running cell is shown with its figures so far.

    The other cells are not started.
    """
    with subprocess.Popen(
        command("soak.chaos", "--seconds=60"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("seed ")
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate()

    assert running.returncode == 130, output
    assert "interrupted" in output.splitlines()[-1]
