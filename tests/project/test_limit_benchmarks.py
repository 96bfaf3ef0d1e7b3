"""Tests of the table of blocking calls: its command measures, and its page has the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from benchmarks.children import Broken
from benchmarks.limits import blocks
from benchmarks.limits import page as docs
from benchmarks.limits.calls import CALLS
from benchmarks.limits.cells import read
from benchmarks.limits.results import TITLES, Cell, Results, is_emulated
from benchmarks.pages import is_made
from tests.support import children_of, eventually, press_ctrl_c
from tools import ROOT

COMMAND: Final = (sys.executable, "-m", "benchmarks.limits")


def test_command_measures_each_way(tmp_path: Path) -> None:
    """The command measures that a signal reaches a lock and an injection does not.

    Only our ladder ends a handler that swallows an interrupt.
    """
    figures = tmp_path / "figures.json"

    done = subprocess.run(
        [*COMMAND, "--only=lock", "--only=process-join", "--runs=1", "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    [rows] = Results.from_json(figures.read_text()).cells.values()
    reached = {
        name: [way for way, cell in row.items() if cell.figure is not None]
        for name, row in rows.items()
    }
    assert reached == {"lock": ["watchdog", "alarm"], "process-join": ["watchdog"]}
    assert rows["lock"]["watchdog"].exceptions == ["LambdaTimeout"]
    assert rows["lock"]["watchdog"].hook_figure is not None


def test_ctrl_c_leaves_no_child_behind() -> None:
    """At Ctrl-C the command exits with 130, and no child is left behind."""
    with subprocess.Popen(
        [*COMMAND, "--only=lock", "--runs=1000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            assert command.stdout is not None
            command.stdout.readline()  # before that, other children run
            children: list[int] = []

            def has_children() -> bool:
                children[:] = children_of(command.pid)
                return bool(children)

            eventually(has_children, "a call to be made")
            errors = press_ctrl_c(command)
        finally:
            command.kill()  # the block's end would wait for a command that ignored Ctrl-C

    assert command.returncode == 130, errors
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_call_that_does_not_block_is_an_error() -> None:
    """A call that ends by itself does not block, and gives no figure."""
    with pytest.raises(Broken, match="ended by itself"):
        read([{"told": "due", "at": 1.0}, {"told": "returned", "at": 2.0}])


def test_call_reached_only_by_sigalrm_is_reported() -> None:
    """A call that SIGALRM reaches and we do not is a defect, and fails the command."""
    late = Cell([None], [], [None], "stuck", [])
    seen = Cell([1.0], ["TimeoutError"], [None], None, [])
    row = {"watchdog": late, "alarm": seen, "injection": late}

    assert list(Results("", 2.0, 0.3, 1, {"3.11": {"lock": row}}).worse())
    assert not list(Results("", 2.0, 0.3, 1, {"3.11": {"lock": {**row, "alarm": late}}}).worse())


def test_page_has_every_call() -> None:
    """The page has a row for each call, with a figure for each way on each interpreter."""
    results = docs.read()
    page = docs.PAGE.read_text(encoding="utf-8")

    for version, rows in results.cells.items():
        assert list(rows) == list(CALLS)
        # Under an emulator, plain injection was left out.
        ways = list(TITLES)[: 2 if is_emulated(version) else None]
        assert all(list(row) == ways for row in rows.values())
    for call in CALLS.values():
        assert f"\n| {call.label}" in page


def test_table_and_plot_match_stored_figures() -> None:
    """The table and the plot are made from the stored figures."""
    assert is_made(docs.PAGE), "dev.py limits --redraw"
    assert is_made(blocks.PAGE), "dev.py blocks"
    assert docs.PLOT.read_text(encoding="utf-8") == docs.drawn(), "dev.py limits --redraw"


def test_figures_round_trip_through_json() -> None:
    """The figures that are written to the file are those that are read from it."""
    results = docs.read()

    assert Results.from_json(json.dumps(json.loads(results.to_json()))) == results
