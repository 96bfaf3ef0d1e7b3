"""What came of a whole run, and the file that it is kept in."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from benchmarks.pages import as_json

from .cells import Run

TITLES: Final = {
    "watchdog": "watchdog-lambda",
    "alarm": "SIGALRM recipe",
    "injection": "plain injection",
}
"""The ways that are compared, as the page calls them."""


@dataclass(frozen=True)
class Cell:
    """The runs of one call, in one way, on one interpreter."""

    ms: list[float | None]
    """From the instant it was due until the handler saw it; None: not within the window."""
    exceptions: list[str]
    """What the handler saw; each once."""
    hook_ms: list[float | None]
    outcome: str | None
    """What the watchdog's last record says; None if there was none in time."""
    notes: list[str]

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Cell:
        """Sum up some runs of the same thing."""
        runs = list(runs)
        return cls(
            ms=[run.ms for run in runs],
            exceptions=sorted({run.exception for run in runs if run.exception}),
            hook_ms=[run.hook_ms for run in runs],
            outcome=runs[-1].outcome,
            notes=sorted({note for run in runs for note in run.notes}),
        )

    @property
    def figure(self) -> float | None:
        """The median in milliseconds; None if it was too late in any of them."""
        return _median(self.ms)

    @property
    def hook_figure(self) -> float | None:
        """The same for the hook."""
        return _median(self.hook_ms)

    def __str__(self) -> str:
        seen = [ms for ms in self.ms if ms is not None]
        if 0 < len(seen) < len(self.ms):
            return f"{len(seen)} of {len(self.ms)}"
        return in_ms(self.figure)


class Results(NamedTuple):
    """A whole run."""

    machine: str
    window_s: float
    grace_period_s: float
    runs: int
    cells: dict[str, dict[str, dict[str, Cell]]]
    """By interpreter, call and way."""

    @property
    def interpreters(self) -> list[str]:
        """Their versions, in the order that they were asked for; without the emulated ones."""
        return [version for version in self.cells if not is_emulated(version)]

    def across(self, name: str, way: str) -> list[Cell]:
        """One call in one way on each interpreter, in their order."""
        return [self.cells[version][name][way] for version in self.interpreters]

    def worse(self) -> Iterator[str]:
        """Where the watchdog did not reach what the recipe reached: a defect of ours."""
        for version in self.interpreters:
            for name, row in self.cells[version].items():
                if row["alarm"].figure is not None and row["watchdog"].figure is None:
                    yield f"{version}: {name}: {row['watchdog']}, and SIGALRM {row['alarm']} ms"

    def to_json(self) -> str:
        """To be kept."""
        return as_json(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read what :meth:`to_json` has made."""

        def whole(read: dict[str, Any]) -> Any:
            return Cell(**read) if "hook_ms" in read else read

        return cls(**json.loads(text, object_hook=whole))


def is_emulated(version: str) -> bool:
    """Whether this is an interpreter for another processor, whose name follows the version."""
    return " " in version


def in_ms(figure: float | None) -> str:
    """Milliseconds in as many digits as mean anything; `no` if there is no figure."""
    if figure is None:
        return "no"
    return f"{figure:.1f}" if figure < 9.95 else f"{figure:.0f}"


def _median(found: list[float | None]) -> float | None:
    seen = [ms for ms in found if ms is not None]
    return statistics.median(seen) if seen and len(seen) == len(found) else None
