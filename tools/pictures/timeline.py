"""One invocation to scale: what happened in a real run, with the watchdog and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .svg import AMBER, BLUE, INK, PINK, Drawing

if TYPE_CHECKING:
    from collections.abc import Iterable

LEFT: Final = 24
RIGHT: Final = 24
WIDTH: Final = 900
TOP: Final = 74
ROW: Final = 30
BAR: Final = 16

_COLOURS: Final = {
    "running": BLUE,
    "hook": AMBER,
    "interrupt": PINK,
    "cleanup": PINK,
    "left": INK,
    "killed": INK,
}


@dataclass(frozen=True, slots=True)
class Run:
    """What the picture is drawn from."""

    timeout: float
    grace_period: float
    last_call: float
    python: str
    awslambdaric: str
    watched: list[dict[str, Any]]
    """The rows of `watchdog-lambda invoke --json`."""
    unwatched: list[dict[str, Any]]
    answer: str
    error: str


def draw(run: Run) -> str:
    """The picture of a run."""
    rows = [row for row in run.watched if row["phase"] not in {"init", "settle"}]
    height = TOP + (len(rows) + 1) * ROW + 52
    drawing = Drawing(WIDTH, height, "One invocation to scale, with the watchdog and without")
    bottom = TOP + (len(rows) + 1) * ROW + 14
    # The first one ends where the texts of the rows below would cross it.
    behind_hook = TOP + ROW * next(n for n, row in enumerate(rows, 1) if row["phase"] == "hook")
    _mark_instants(drawing, run, [behind_hook, bottom, bottom])
    for number, row in enumerate(rows):
        _draw_row(drawing, run, TOP + number * ROW, row)
    below = TOP + len(rows) * ROW + 14
    drawing.line([(LEFT, below - 8), (WIDTH - RIGHT, below - 8)], dashed=True)
    killed = next(row["start"] for row in run.unwatched if row["phase"] == "killed")
    drawing.rectangle(LEFT, below, _x(run, killed) - LEFT, BAR, INK, opacity=0.2)
    _cross(drawing, _x(run, killed), below + BAR / 2)
    drawing.text(
        LEFT + 8, below + BAR / 2, f"without the watchdog: killed; the caller has “{run.error}”"
    )
    _draw_ruler(drawing, run, bottom + 8)
    return str(drawing)


def _x(run: Run, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * seconds / run.timeout


def _instants(run: Run) -> Iterable[tuple[float, str]]:
    grace, last = run.timeout - run.grace_period, run.timeout - run.last_call
    yield grace, f"{grace:g} s: the grace period begins"
    yield last, f"{last:g} s: last call, nothing is left alone any more"
    yield run.timeout, f"{run.timeout:g} s: hard deadline, Lambda kills"


def _mark_instants(drawing: Drawing, run: Run, bottoms: list[float]) -> None:
    for number, ((instant, what), bottom) in enumerate(zip(_instants(run), bottoms, strict=True)):
        x, y = _x(run, instant), 54 - number * 20
        drawing.line([(x, y), (x, bottom)], dashed=True)
        drawing.text(x - 6, y, what, anchor="end")


def _draw_row(drawing: Drawing, run: Run, y: float, row: dict[str, Any]) -> None:
    phase, start, end = row["phase"], row["start"], row["end"]
    x, stop, middle = _x(run, start), _x(run, end), y + BAR / 2
    colour = _COLOURS[phase]
    if phase == "left":
        drawing.line([(x, middle), (stop, middle)])
        drawing.line([(x, y), (x, y + BAR)])
    else:
        drawing.rectangle(x, y, max(stop - x, 4), BAR, colour, opacity=0.85)
    text = {
        "running": "the handler runs",
        "hook": f"a shutdown hook runs, {end - start:.1f} s",
        "interrupt": f"`LambdaTimeout` lands in the handler, at {start:.2f} s",
        "cleanup": f"its `except` and `finally` run, {end - start:.1f} s",
        "left": f"the caller has `{run.answer}`, {end - start:.1f} s to spare",
    }[phase]
    if phase == "running":
        drawing.text(x + 8, middle, text, colour="#ffffff")
    else:
        drawing.text(x - 8, middle, text, anchor="end")


def _cross(drawing: Drawing, x: float, y: float) -> None:
    for sign in (1, -1):
        drawing.line([(x - 6, y - 6 * sign), (x + 6, y + 6 * sign)])


def _draw_ruler(drawing: Drawing, run: Run, y: float) -> None:
    drawing.line([(LEFT, y), (WIDTH - RIGHT, y)])
    for second in range(round(run.timeout) + 1):
        drawing.line([(_x(run, second), y), (_x(run, second), y + 4)])
        if second % 3 == 0:
            anchor = "start" if not second else "middle"
            drawing.text(_x(run, second), y + 14, f"{second} s", anchor=anchor)
