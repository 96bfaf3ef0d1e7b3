"""Draws spans of time to scale, one row each below a shared ruler. All functions are pure.

0 s                1                  2                 3 s
|------------------|------------------|------------------|
running     =======================================                      2.25 s
interrupt                                          !     LambdaTimeout: delivered
cleanup                                            ##    0.10 s
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .screen import Styled

LABEL = 11
GAP = 2
TEXT = 40
"""Columns on the right for a row's text."""

LEAST_SHARE = 0.2
"""The least share of the drawn time that the interesting part must fill; if it would fill less, it
is drawn again, larger."""

BEFORE = 0.25
"""How much of the time before the interesting part is drawn, as a share of that part."""

_LEAST_STEP = 7  # columns between two figures of the ruler
_STEPS = (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Row:
    """Spans of one kind. A span without length is drawn as a mark."""

    label: str
    symbol: str
    style: str
    spans: tuple[tuple[float, float], ...]
    text: str = ""


def draw(rows: list[Row], begin: float, end: float, width: int) -> list[list[Styled]]:
    """Draw rows below a ruler from `begin` to `end` (seconds). No line is wider than `width`."""
    length = max(width - LABEL - GAP - TEXT, 20)
    seconds, marks = ruler(begin, end, length)
    blank = " " * LABEL
    lines = [[Styled(blank), Styled(seconds, "dim")], [Styled(blank), Styled(marks, "dim")]]
    for row in rows:
        bar = bar_of(row, begin, end, length)
        text = shortened(row.text, width - LABEL - length - 1 - GAP)
        lines.append(
            [Styled(f"{row.label:<{LABEL}}"), Styled(bar, row.style), Styled(" " * GAP + text)]
        )
    return lines


def draw_large(
    rows: list[Row], running: Row, first: float, end: float, width: int
) -> list[list[Styled]]:
    """Draw rows from 0 to `end`, in two parts if everything from `first` on is too small to see.

    The first part then shows all of the time, with the row `running` only.
    """
    span = end - first
    if span > LEAST_SHARE * end:
        return draw(rows, 0.0, end, width)
    begin = max(first - BEFORE * span, 0.0)
    shown = [row for row in rows if any(stop >= begin for _, stop in row.spans)]
    return [*draw([running], 0.0, end, width), [], *draw(shown, begin, end, width)]


def draw_shares(shares: list[tuple[float, str]], width: int) -> list[list[Styled]]:
    """Draw a bar for each share, aligned with the timeline. No line is wider than `width`."""
    length = max(width - LABEL - GAP - TEXT, 20)
    lines: list[list[Styled]] = []
    blank = " " * GAP
    for share, what in shares:
        head = f"{share:.0%}".rjust(LABEL - GAP) + blank
        bar = "#" * max(round(share * length), 1)
        text = shortened(what, width - LABEL - length - 1 - GAP)
        lines.append([Styled(head), Styled(f"{bar:<{length + 1}}", "yellow"), Styled(blank + text)])
    return lines


def bar_of(row: Row, begin: float, end: float, length: int) -> str:
    """Return the row's symbols, one per column. Even a short span gets one symbol."""
    cells = [" "] * (length + 1)
    for start, stop in row.spans:
        if stop < begin or start > end:
            continue
        first = column(start, begin, end, length)
        last = max(column(stop, begin, end, length), first + 1)
        cells[first:last] = row.symbol * (last - first)
    return "".join(cells[: length + 1])


def column(seconds: float, begin: float, end: float, length: int) -> int:
    """Return the column of an instant. The last column is reserved for `end`."""
    share = (seconds - begin) / (end - begin)
    return min(max(round(share * length), 0), length)


def ruler(begin: float, end: float, length: int) -> tuple[str, str]:
    """Return the line of figures and the line of marks below it."""
    step = _step((end - begin) * _LEAST_STEP / length)
    seconds, marks = [" "] * (length + 12), ["-"] * (length + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [(begin, f"{figure(begin, 3)} s")]
    tick = (math.floor(begin / step + 1e-9) + 1) * step
    while tick < end - 1e-9:
        ticks.append((tick, figure(tick, decimals)))
        tick += step
    free = 0
    for at, text in ticks:
        where = column(at, begin, end, length)
        if where < free or length - where < _LEAST_STEP:
            continue
        seconds[where : where + len(text)] = text
        marks[where] = "|"
        free = where + len(text) + 1
    text = f"{figure(end, 3)} s"
    seconds[length : length + len(text)] = text
    marks[length] = "|"
    return "".join(seconds).rstrip(), "".join(marks)


def figure(seconds: float, decimals: int) -> str:
    """Format a number without trailing zeros."""
    text = f"{seconds:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shortened(text: str, width: int) -> str:
    """Cut a text at `width`."""
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def _step(least: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(least))
    return next((step * power for step in _STEPS if step * power >= least), 10 * power)
