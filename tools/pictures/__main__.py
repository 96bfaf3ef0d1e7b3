"""Run the handler of the pictures into its timeout, and draw what came of it.

python3 dev.py pictures                # two runs of 12 s, and the pictures
python3 dev.py pictures --redraw       # the pictures of the figures that are there
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from benchmarks.drawing import ALARM, INK, OTHER, OURS, blank, strip, style, to_svg
from benchmarks.pages import remake
from tools import ROOT, ending
from tools.soak.judge import STEP, STEPS
from tools.soak.report import table
from watchdog_lambda._config import Settings

Figures = SimpleNamespace
"""What has been measured, as it stands in the file."""

FOLDER: Final = ROOT / "docs" / "explanation"
FIGURES: Final = FOLDER / "timeline.json"
SOAK: Final = FOLDER / "soak.json"
PROOF: Final = FOLDER / "proof.md"

DEFAULTS: Final = Settings({})
TIMEOUT: Final = 4 * DEFAULTS.grace_period
"""Of the function: the shortest one that has the default grace period whole."""


def main() -> int:
    parser = ending.parser("dev.py pictures", __doc__)
    parser.add_argument("--redraw", action="store_true", help="run nothing")
    if not parser.parse_args().redraw:
        FIGURES.write_text(json.dumps(vars(measure()), indent=1) + "\n", encoding="utf-8")
    for path, text in drawn().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    remake(PROOF)
    return 0


def measure() -> Figures:
    """Run the handler in the real runtime, with the watchdog and without."""
    watched, unwatched = _invoke(), _invoke("--unwatched")
    [call], [bare] = watched["invocations"], unwatched["invocations"]
    return Figures(
        timeout=watched["timeout"],
        grace_period=call["record"]["grace_period_ms"] / 1000,
        last_call=DEFAULTS.last_call,
        python=watched["python"],
        awslambdaric=watched["awslambdaric"],
        watched=call["timeline"],
        unwatched=bare["timeline"],
        answer=json.dumps(call["response"]),
        error=bare["error"]["errorMessage"].rpartition("Z ")[2],
    )


def _invoke(*options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "watchdog_lambda.cli", "invoke", "app.handler", "--json"]
    command += [f"--path={Path(__file__).parent}", f"--timeout={TIMEOUT:g}", "--emulator=none"]
    done = subprocess.run([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def read() -> Figures:
    return Figures(**json.loads(FIGURES.read_text(encoding="utf-8")))


def read_soak() -> Figures:
    """The result of the last long soak, as it was saved."""
    return Figures(**json.loads(SOAK.read_text(encoding="utf-8")))


def drawn() -> dict[Path, str]:
    return {
        FOLDER / "timeline.svg": draw_timeline(read()),
        FOLDER / "race.svg": draw_race(read_soak()),
    }


def soak_table() -> None:
    found = read_soak()
    cells = [(cell["name"], cell["rows"]) for cell in found.cells]
    # Two of them side by side are what a page has room for.
    for n in range(0, len(cells), 2):
        print("\n```\n" + table(cells[n : n + 2]) + "\n```")
    print(f"\n**{found.verdict}**")


_LOOKS: Final = {"running": OURS, "hook": ALARM, "left": INK, "killed": INK}  # of the others: OTHER


def draw_timeline(run: Figures) -> str:
    rows = [row for row in run.watched if row["phase"] not in {"init", "settle"}]
    killed = next(row["start"] for row in run.unwatched if row["phase"] == "killed")
    with style("timeline"):
        figure = blank(9.4, 3.4)
        axes = figure.add_axes((0.02, 0.09, 0.96, 0.73))
        strip(axes, "top", "left", "right")
        for place, row in enumerate(rows):
            start, end = row["start"], row["end"]
            thickness = 0.1 if row["phase"] == "left" else 0.6
            width = max(end - start, 0.05)
            axes.barh(
                place, width, left=start, height=thickness, color=_LOOKS.get(row["phase"], OTHER)
            )
            inside = row["phase"] == "running"
            axes.annotate(
                _text(run, row),
                (0.1 if inside else start - 0.1, place),
                ha="left" if inside else "right",
                va="center",
                color="#ffffff" if inside else INK,
            )
        below = len(rows)
        axes.barh(below, killed, height=0.6, color=INK, alpha=0.2)
        axes.plot([killed], [below], marker="x", color=INK, clip_on=False)
        without = f"without the watchdog: killed; the caller has “{run.error}”"
        axes.annotate(without, (0.1, below), va="center")
        _mark_instants(axes, run)
        axes.set_xlim(0, run.timeout)
        axes.set_ylim(below + 0.6, -0.6)
        axes.set_yticks([])
        ticks = range(0, round(run.timeout) + 1, 3)
        axes.set_xticks(ticks, [f"{second} s" for second in ticks])
        return to_svg(figure)


def _mark_instants(axes: Any, run: Figures) -> None:
    grace, last = run.timeout - run.grace_period, run.timeout - run.last_call
    for height, low, instant, what in (
        # The first line ends above the texts of the rows below, which it would cross.
        (1.02, 0.66, grace, f"{grace:g} s: the grace period begins"),
        (1.10, 0.0, last, f"{last:g} s: last call, nothing is left alone any more"),
        (1.18, 0.0, run.timeout, f"{run.timeout:g} s: hard deadline, Lambda kills"),
    ):
        axes.axvline(instant, low, color=INK, linewidth=0.8, linestyle=":", clip_on=False)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "right"}
        axes.annotate(what, (instant, height), va="bottom", **place)


def _text(run: Figures, row: dict[str, Any]) -> str:
    took = f"{row['end'] - row['start']:.1f} s"
    return {
        "running": "the handler runs",
        "hook": f"a shutdown hook runs, {took}",
        "interrupt": f"LambdaTimeout lands in the handler, at {row['start']:.2f} s",
        "cleanup": f"its except and finally run, {took}",
        "left": f"the caller has {run.answer}, {took} to spare",
    }[row["phase"]]


SIDES: Final = {
    "interrupt": (OTHER, "the interrupt was first: the caller has a LambdaTimeout"),
    "handler": (OURS, "the handler was first: the caller has its result"),
}
ACTS: Final = {"fired": "the watchdog wakes to act", "sent": "the watchdog sends the interrupt"}


def counted(soak: Figures, act: str, side: str) -> list[int]:
    """How many of all cells came in each step from the handler's end."""
    nothing = [0] * (2 * STEPS)
    found = (cell["distances"].get(f"{act}, {side} first", nothing) for cell in soak.cells)
    return [sum(steps) for steps in zip(nothing, *found, strict=True)]


def draw_race(soak: Figures) -> str:
    places = [(step + 0.5) * STEP * 1e6 for step in range(-STEPS, STEPS)]
    with style("race"):
        figure = blank(9.4, 4.2)
        for row, (act, what) in enumerate(ACTS.items()):
            axes = figure.add_axes((0.02, 0.55 - 0.47 * row, 0.96, 0.32))
            strip(axes, "top", "left", "right")
            bottom = [0] * len(places)
            for side, (color, label) in SIDES.items():
                bars = counted(soak, act, side)
                width = STEP * 0.9e6
                axes.bar(places, bars, width, bottom, color=color, alpha=0.85, label=label)
                bottom = [low + bar for low, bar in zip(bottom, bars, strict=True)]
            axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
            title = f"{what}: {sum(bottom):,} times, {max(bottom):,} in the highest bar"
            axes.set_title(title, loc="left", fontsize=8)
            ticks = [STEP * 1e6 * step for step in range(-STEPS, STEPS + 1, STEPS // 2)]
            names = [f"{tick:+g} µs" if tick else "the handler's end is due" for tick in ticks]
            axes.set_xticks(ticks, names)
            axes.set_yticks([])
            axes.margins(x=0)
            if not row:
                place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.15)}
                axes.legend(frameon=False, borderaxespad=0, ncols=2, **place)
        return to_svg(figure)


if __name__ == "__main__":
    sys.exit(main())
