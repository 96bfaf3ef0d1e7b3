"""The parts of the benchmarks, and what each has to say: tables, goals, ratios for the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

Tell = Callable[[str], None]
"""Says what is under way."""
Found = dict[str, Any]
"""What a part has measured, as it stands in the file."""

SKIPPED: Final = "skipped"
"""The key in what was found of the list of what could not be measured, and why."""


class Table(NamedTuple):
    """Rows of text under a head, in Markdown: on the terminal and on the page."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def lines(self) -> Iterator[str]:
        """The table's, with a blank one at its end."""
        yield f"**{self.title}**"
        yield ""
        yield f"| {' | '.join(self.head)} |"
        yield "|" + "|".join("---" if text else "---:" for text in self._text_columns()) + "|"
        for row in self.rows:
            yield f"| {' | '.join(row)} |"
        yield ""

    def _text_columns(self) -> list[bool]:
        def is_figure(cell: str) -> bool:
            return not cell or cell[0].isdecimal() or cell[0] == "-"

        columns = zip(*self.rows, strict=True)
        return [not all(map(is_figure, column)) or not any(column) for column in columns]


class Goal(NamedTuple):
    """What a figure is to stay below."""

    what: str
    figure: float
    most: float
    unit: str
    limit: float | None = None
    """What ``--check`` lets pass. None: not checked, because it depends on the machine."""
    reason: str = ""
    """Why it is missed where it is, and what would be needed."""

    @property
    def is_met(self) -> bool:
        return self.figure <= self.most

    @property
    def is_broken(self) -> bool:
        """Whether ``--check`` fails for it."""
        return self.limit is not None and self.figure > self.limit

    def __str__(self) -> str:
        verdict = "BROKEN" if self.is_broken else "met   " if self.is_met else "MISSED"
        return f"{verdict}  {self.what}: {self.figures()}"

    def figures(self) -> str:
        return f"{digits(self.figure)} {self.unit}, goal {digits(self.most)}".replace(" ,", ",")


class Ratio(NamedTuple):
    """A figure that does not depend on the machine's speed, to be compared with the baseline's."""

    name: str
    value: float
    tolerance: float
    """How many times the baseline's it may be."""
    why: str
    """Why it may vary by so much."""
    floor: float = 0.0
    """What it may be in any case: below, a difference is noise."""


class Measure(Protocol):
    """Measures; in short if it is to be quick."""

    def __call__(self, *, quick: bool, tell: Tell) -> Found: ...


class Part(NamedTuple):
    name: str
    title: str
    about: str
    """How it is measured."""
    measure: Measure
    tables: Callable[[Found], list[Table]]
    goals: Callable[[Found], list[Goal]] = lambda _found: []
    ratios: Callable[[Found], list[Ratio]] = lambda _found: []
    is_quick: bool = True
    """Whether ``--quick`` has it."""


def digits(figure: float) -> str:
    if figure == 0:
        return "0"
    size = abs(figure)
    if size >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.2g}" if size < 0.1 else f"{figure:.1f}" if size >= 10 else f"{figure:.2f}"


def above(figure: float) -> str:
    """A time in nanoseconds in a unit that can be read."""
    for name, size in (("ms", 1e6), ("µs", 1e3)):
        if abs(figure) >= size:
            return f"{digits(figure / size)} {name}"
    return f"{figure:,.0f} ns"


def quantile(found: Iterable[float], share: float) -> float:
    """The smallest figure that so much of them do not exceed."""
    ordered: Sequence[float] = sorted(found)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
