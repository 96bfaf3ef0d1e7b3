"""The ladder as a picture: which interrupt lands next, and when none does.

Places are chosen by hand; names and figures are the code's. That every arrow is one that the code
takes, a test shows: it has a handler for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from watchdog_lambda._engine.interrupts import PAUSE
from watchdog_lambda.errors import Interrupt, LambdaTimeout, LoopInterrupt

from .svg import AMBER, BLUE, INK, PINK, SIZE, Drawing

WIDTH: Final = 900
HEIGHT: Final = 560

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class State:
    """What an invocation can be in."""

    corner: Point
    size: Point
    colour: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """How it gets from one state to another."""

    origin: str
    target: str
    points: tuple[Point, ...]
    lines: tuple[str, ...]
    """What it takes."""
    label: Point
    anchor: str = "start"


_LEFT, _BOX = 170.0, 250.0
_MIDDLE, _RIGHT = _LEFT + _BOX / 2, _LEFT + _BOX
_END = 760.0
_AGAIN = f"swallowed: {PAUSE * 1000:g} ms later"
_FIRST, _NEXT, _LOOPS = (kind.__name__ for kind in (LambdaTimeout, Interrupt, LoopInterrupt))

STATES: Final = {
    "runs": State((_LEFT, 16), (_BOX, 40), BLUE, ("the handler runs",)),
    "hooks": State((_LEFT, 110), (_BOX, 40), AMBER, ("shutdown hooks run beside it",)),
    "first": State((_LEFT, 222), (_BOX, 40), PINK, (f"`{_FIRST}` lands",)),
    "next": State(
        (_LEFT, 366), (_BOX, 52), PINK, (f"`{_NEXT}` lands", f"(on an event loop `{_LOOPS}`)")
    ),
    "stuck": State(
        (_LEFT, 494),
        (_BOX, 52),
        INK,
        ("reported as `stuck`", "(then killed, or answered for)"),
    ),
    "alone": State((500, 292), (190, 52), BLUE, ("left alone:", "cleanup, winding up, shield")),
    "settled": State((_END, 16), (124, 530), BLUE, ("settled:", "nothing lands", "any more")),
}

STEPS: Final = (
    Step("runs", "settled", ((_RIGHT, 36), (_END, 36)), ("ends in time",), (_RIGHT + 16, 26)),
    Step(
        "runs",
        "hooks",
        ((_MIDDLE, 56), (_MIDDLE, 110)),
        ("the grace period has come",),
        (_MIDDLE + 10, 82),
    ),
    Step(
        "hooks",
        "settled",
        ((_RIGHT, 130), (_END, 130)),
        ("ends while hooks run",),
        (_RIGHT + 16, 120),
    ),
    Step(
        "hooks",
        "first",
        ((_MIDDLE, 150), (_MIDDLE, 222)),
        ("hooks or their budget have ended,", "and no shield is up"),
        (_MIDDLE + 10, 176),
    ),
    Step(
        "hooks",
        "next",
        ((_LEFT, 140), (_LEFT - 22, 140), (_LEFT - 22, 378), (_LEFT, 378)),
        ("the same, with", "`INTERRUPT=base`"),
        (_LEFT - 30, 240),
        "end",
    ),
    Step(
        "hooks",
        "stuck",
        ((_LEFT, 122), (18, 122), (18, 520), (_LEFT, 520)),
        ("C code that looks", "at no signals"),
        (28, 470),
    ),
    Step(
        "first", "settled", ((_RIGHT, 234), (_END, 234)), ("answers or raises",), (_RIGHT + 16, 224)
    ),
    Step(
        "first",
        "alone",
        ((_RIGHT, 252), (595, 252), (595, 292)),
        ("caught, not done yet",),
        (_RIGHT + 16, 263),
    ),
    Step("first", "next", ((_MIDDLE, 262), (_MIDDLE, 366)), (_AGAIN,), (_MIDDLE + 10, 320)),
    Step("alone", "settled", ((690, 318), (_END, 318)), ("ends",), (708, 308)),
    Step(
        "alone", "next", ((595, 344), (595, 382), (_RIGHT, 382)), ("last call",), (_RIGHT + 16, 372)
    ),
    Step(
        "next",
        "next",
        ((_LEFT, 400), (_LEFT - 22, 400), (_LEFT - 22, 440), (_LEFT + 40, 440), (_LEFT + 40, 418)),
        (_AGAIN,),
        (_LEFT + 46, 440),
    ),
    Step(
        "next", "settled", ((_RIGHT, 406), (_END, 406)), ("answers or raises",), (_RIGHT + 16, 396)
    ),
    Step(
        "next",
        "stuck",
        ((_MIDDLE + 90, 418), (_MIDDLE + 90, 494)),
        ("after last call, too",),
        (_MIDDLE + 100, 466),
    ),
    Step(
        "stuck",
        "settled",
        ((_RIGHT, 520), (_END, 520)),
        ("comes back after all",),
        (_RIGHT + 16, 510),
    ),
)


def draw() -> str:
    """The picture."""
    drawing = Drawing(WIDTH, HEIGHT, "The ladder: which interrupt lands next, and when none does")
    for step in STEPS:
        drawing.arrow(list(step.points))
        x, y = step.label
        for number, line in enumerate(step.lines):
            drawing.text(x, y + number * (SIZE + 4), line, anchor=step.anchor)
    for state in STATES.values():
        (x, y), (width, height) = state.corner, state.size
        drawing.rectangle(x, y, width, height, state.colour, outline=True)
        first = y + height / 2 - (len(state.lines) - 1) * (SIZE + 5) / 2
        for number, line in enumerate(state.lines):
            drawing.text(x + width / 2, first + number * (SIZE + 5), line, anchor="middle")
    return str(drawing)
