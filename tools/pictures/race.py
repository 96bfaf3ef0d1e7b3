"""The race at an invocation's end, as a soak ran it: how close it was, and who was first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

from tools.soak_cell import STEP, STEPS

from .svg import BLUE, INK, PINK, Drawing

WIDTH: Final = 900
PLOT: Final = 130
"""Height of one plot's bars."""
TOP: Final = 62
BETWEEN: Final = 76
LEFT: Final = 24
BAR: Final = (WIDTH - 2 * LEFT) / (2 * STEPS)

SIDES: Final = {"interrupt": PINK, "handler": BLUE}
ACTS: Final = {
    "fired": "the watchdog wakes to act",
    "sent": "the watchdog sends the interrupt",
}


@dataclass(frozen=True, slots=True)
class Soak:
    """What the picture and the page's table are made of: the file that the soak saves."""

    verdict: str
    cells: list[dict[str, Any]]


def counted(soak: Soak, act: str, side: str) -> list[int]:
    """How many of all cells came in each step from the handler's end."""
    nothing = [0] * (2 * STEPS)
    found = (cell["distances"].get(f"{act}, {side} first", nothing) for cell in soak.cells)
    return [sum(steps) for steps in zip(nothing, *found, strict=True)]


def draw(soak: Soak) -> str:
    """The picture of a soak."""
    height = TOP + 2 * PLOT + BETWEEN + 44
    drawing = Drawing(WIDTH, height, "How close handlers ended to the watchdog's acts")
    for n, (text, colour) in enumerate(
        (
            ("the handler was first: the caller has its result", BLUE),
            ("the interrupt was first: the caller has a LambdaTimeout", PINK),
        )
    ):
        drawing.rectangle(LEFT + 420 * n, 12, 12, 12, colour, opacity=0.85)
        drawing.text(LEFT + 420 * n + 20, 18, text)
    for n, act in enumerate(ACTS):
        _draw_act(drawing, soak, act, TOP + n * (PLOT + BETWEEN))
    return str(drawing)


def _draw_act(drawing: Drawing, soak: Soak, act: str, top: float) -> None:
    sides = {side: counted(soak, act, side) for side in SIDES}
    most = max(map(sum, zip(*sides.values(), strict=True))) or 1
    base = top + PLOT
    for step in range(2 * STEPS):
        y = base
        for side, colour in SIDES.items():
            bar = PLOT * sides[side][step] / most
            y -= bar
            drawing.rectangle(LEFT + step * BAR + 1, y, BAR - 2, bar, colour, opacity=0.85)
    drawing.line([(LEFT, base), (WIDTH - LEFT, base)])
    end = LEFT + STEPS * BAR
    drawing.line([(end, top - 2), (end, base + 4)], dashed=True)
    total = sum(itertools.chain(*sides.values()))
    drawing.text(LEFT, top - 14, f"{ACTS[act]}: {total:,} times, {most:,} in the highest bar")
    width = STEP * 1e6
    for step in range(-STEPS, STEPS + 1, STEPS // 2):
        text = (
            "the handler's end is due"
            if not step
            else f"{step * width:+g} µs".replace("-", "\N{MINUS SIGN}")
        )
        anchor = {-STEPS: "start", STEPS: "end"}.get(step, "middle")
        drawing.text(end + step * BAR, base + 16, text, anchor=anchor, colour=INK)
