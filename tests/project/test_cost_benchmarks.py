"""Tests of the cost benchmark: its command, its baseline, and its documentation page."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.children import Broken, Child
from benchmarks.costs import baseline
from benchmarks.costs import page as docs
from benchmarks.costs.__main__ import _conclude
from benchmarks.costs.contenders import CONTENDERS
from benchmarks.costs.registry import interpreters
from benchmarks.costs.report import SKIPPED, Goal, Ratio, Table, quantile
from benchmarks.costs.results import PARTS, Results
from benchmarks.pages import is_made
from benchmarks.quota import NO_QUOTA, quota
from tests.support import children_of, eventually, press_ctrl_c
from tools import ROOT

COMMAND: Final = (sys.executable, "-m", "benchmarks.costs")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


# ---- the command ---------------------------------------------------------------------------------


def test_command_measures_one_part(tmp_path: Path) -> None:
    """The command measures one part.

    It prints the table and the goals, and writes every figure to the file.
    """
    figures = tmp_path / "figures.json"

    done = run("--only=idle", "--quick", "--check", f"--json={figures}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "met     idle in an invocation that waits: wake-ups: 0" in done.stdout
    results = Results.from_json(figures.read_text())
    assert list(results.parts) == ["idle"]
    assert results.parts["idle"]["states"]["invoked"]["wake_ups"] == 0


def test_help_names_every_part() -> None:
    """The help says for each part what is measured, how to run it, and how to read the outcome."""
    told = run("--help").stdout

    for part in PARTS.values():
        assert f"    {part.name:<12}{part.title}" in told
    assert "benchmarks/baseline.json" in told
    assert "{" not in told


def test_page_requires_figures_of_one_run() -> None:
    """The page is made only from the figures of one run. Two runs would compare two machines."""
    done = run("--docs", "--only=idle")

    assert done.returncode == 2
    assert "leave --only and --quick out" in done.stderr


def test_ctrl_c_leaves_no_child_behind() -> None:
    """At Ctrl-C the command exits with 130, and no child is left behind."""
    with subprocess.Popen(
        [*COMMAND, "--only=interrupts"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            children: list[int] = []

            def has_children() -> bool:
                children[:] = children_of(command.pid)
                return bool(children)

            eventually(has_children, "a handler to be interrupted")
            errors = press_ctrl_c(command)
        finally:
            command.kill()  # the block's end would wait for a command that ignored Ctrl-C

    assert command.returncode == 130, errors
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


# ---- what fails it, and what does not ------------------------------------------------------------


def conclude(results: Results, **options: object) -> int:
    chosen = {"json": None, "update_baseline": False, "docs": False, "check": True, **options}
    return _conclude(results, argparse.Namespace(**chosen))


def slowed_down(value: Any, times: float) -> Any:
    """Return a part's results with every time multiplied."""
    if isinstance(value, dict):
        return {k: slowed_down(inner, times) for k, inner in value.items()}
    if isinstance(value, list):
        return [slowed_down(inner, times) for inner in value]
    return value * times if isinstance(value, float) else value


def test_uniformly_slower_run_passes() -> None:
    """If all calls take three times as long, the comparison with the baseline passes.

    This is what a slow machine does.
    """
    kept = docs.read()
    slow = kept._replace(parts={"calls": slowed_down(kept.parts["calls"], 3.0)})

    assert conclude(slow) == 0
    assert [ratio.value for ratio in slow.ratios()] == pytest.approx(
        [ratio.value for ratio in kept._replace(parts={"calls": kept.parts["calls"]}).ratios()]
    )


@pytest.mark.parametrize("name", ["entrypoint", "@watch"])
def test_regression_of_one_call_fails(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If one of our calls takes twice as long, and the others do not, the comparison fails."""
    results = docs.read()._replace(parts={"calls": docs.read().parts["calls"]})
    results.parts["calls"]["ways"][name]["quiet"] *= 2

    assert conclude(results) == 1
    assert f"WORSE   {name}: above bare, beside the recipe" in capsys.readouterr().out
    assert conclude(results, check=False) == 0


def test_idle_wake_up_fails() -> None:
    """If an idle process wakes up, the comparison fails. It would wake up on every machine."""
    results = docs.read()._replace(parts={"idle": docs.read().parts["idle"]})
    results.parts["idle"]["states"]["parked"]["wake_ups"] = 1

    assert conclude(results) == 1


def test_difference_below_the_noise_passes() -> None:
    """A figure far above the baseline's but below the noise is no failure."""
    ratio = Ratio("a", 3.9, tolerance=1.5, why="", floor=4.0)

    assert not baseline.Comparison(ratio, 1.0).is_worse
    assert baseline.Comparison(ratio._replace(value=4.1), 1.0).is_worse
    assert not baseline.Comparison(ratio._replace(value=4.1), 3.0).is_worse
    assert not baseline.Comparison(ratio._replace(value=9.9), None).is_worse


def test_unmeasured_ratios_stay_in_the_baseline(tmp_path: Path) -> None:
    """A run of one part replaces only that part's ratios in the baseline."""
    file = tmp_path / "baseline.json"
    baseline.update([Ratio("a", 1.0, 1, ""), Ratio("b", 2.0, 1, "")], file)

    baseline.update([Ratio("b", 3.0, 1, "")], file)

    assert baseline.read(file) == {"a": 1.0, "b": 3.0}


def test_baseline_has_every_ratio() -> None:
    """The baseline has every ratio that is measured, and no others."""
    assert sorted(ratio.name for ratio in docs.read().ratios()) == list(baseline.read())


# ---- the page ------------------------------------------------------------------------------------


def test_tables_and_plots_match_stored_figures() -> None:
    """The page's tables and plots are made from the stored figures."""
    assert is_made(docs.PAGE), "dev.py bench --redraw"
    for path, text in docs.drawn().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: dev.py bench --redraw"


def test_figures_round_trip_through_json() -> None:
    """The figures that are written to the file are those that are read from it."""
    results = docs.read()

    assert Results.from_json(json.dumps(json.loads(results.to_json()))) == results


def test_page_has_every_part_and_contender() -> None:
    """The page shows every part and every contender, all of one run."""
    results = docs.read()
    page = docs.PAGE.read_text(encoding="utf-8")

    assert not docs.missing(results)
    assert not any(found[SKIPPED] for found in results.parts.values())
    assert list(results.parts["calls"]["ways"]) == list(CONTENDERS)
    for part in PARTS.values():
        assert f"\n## {part.title}\n" in page


def test_missed_goal_is_explained() -> None:
    """Every goal has its explanation for the case that it is missed, written before it is."""
    for goal in docs.read().goals():
        assert goal.reason, goal.what
        if not goal.is_met:
            assert f"- **{goal.what}** ({goal.figures()}). {goal.reason}" in docs.PAGE.read_text(
                encoding="utf-8"
            )


# ---- what measures -------------------------------------------------------------------------------


def test_cpu_quota_limits_the_process() -> None:
    """With the CPU quota a process that would take a whole core gets 7 % of it."""
    with quota() as held:
        if held is None:
            pytest.skip(NO_QUOTA)
        command = [*held.launch, sys.executable, "-c", "while True: pass"]
        with subprocess.Popen(command) as process:
            try:
                schedstat = Path(f"/proc/{process.pid}/schedstat")
                began, before = time.monotonic(), int(schedstat.read_text().split()[0])
                time.sleep(0.6)
                used = int(schedstat.read_text().split()[0]) - before
                passed = time.monotonic() - began
            finally:
                process.kill()

    assert 0 < used / 1e9 / passed < 0.2


def test_control_group_is_removed() -> None:
    """The control group is removed at the block's end."""
    with quota():
        pass

    found = [*Path("/sys/fs/cgroup").glob("costs-*"), *Path("/sys/fs/cgroup/cpu").glob("costs-*")]
    assert not [group for group in found if group.name == f"costs-{os.getpid()}"]


def test_failing_child_process_raises() -> None:
    """A measured process that fails gives an error with its output, and no figure."""
    with (
        Child("costs.calls", "missing") as child,
        pytest.raises(Broken, match="KeyError: 'missing'"),
    ):
        child.hear()


def test_missing_packages_are_skipped_with_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed is left out of the table, with the reason."""
    monkeypatch.delenv("WRAPPERS_PYTHON", raising=False)

    skipped: list[str] = []

    assert list(interpreters(["Lumigo", "bare"], skipped)) == ["bare"]
    assert skipped == ["Lumigo: needs the environment of `dev.py wrappers`"]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1, 100), (0.001, 1)], ids=str
)
def test_quantile_is_taken_by_order(share: float, expected: int) -> None:
    """Of 100 figures the 99th percentile is the 99th in order."""
    assert quantile(range(1, 101), share) == expected


def test_table_figures_are_right_aligned() -> None:
    """A table's figures are aligned to the right, and its names to the left."""
    table = Table("costs", ("", "ns"), [("bare", "30"), ("entrypoint", "1,000")])

    assert list(table.lines())[2:] == [
        "|  | ns |",
        "|---|---:|",
        "| bare | 30 |",
        "| entrypoint | 1,000 |",
        "",
    ]


def test_goal_is_formatted_as_a_sentence() -> None:
    """A goal is shown as a sentence: met, missed, or broken where no machine is a reason."""
    goal = Goal("a call", 900.0, 1000, "ns")

    assert str(goal) == "met     a call: 900 ns, goal 1,000"
    assert str(goal._replace(figure=1200.0)) == "MISSED  a call: 1,200 ns, goal 1,000"
    assert str(goal._replace(figure=1200.0, limit=1100)).startswith("BROKEN")
