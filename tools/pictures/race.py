"""The race at an invocation's end, as a soak ran it: how close it was, and who was first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from benchmarks.drawing import INK, OTHER, OURS, blank, strip, style, to_svg
from tools.soak_cell import STEP, STEPS

SIDES: Final = {
    "interrupt": (OTHER, "the interrupt was first: the caller has a LambdaTimeout"),
    "handler": (OURS, "the handler was first: the caller has its result"),
}
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
                place: dict[str, Any] = {
                    "loc": "lower left",
                    "bbox_to_anchor": (0, 1.15),
                    "ncols": 2,
                }
                axes.legend(frameon=False, borderaxespad=0, **place)
        return to_svg(figure)
