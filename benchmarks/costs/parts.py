"""The parts of the benchmarks: each measures one thing, and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from .report import Goal, Ratio, Table

    Found = dict[str, Any]
    """What a part has measured, as it stands in the file."""

SKIPPED: Final = "skipped"
"""The key in what was found of the list of what could not be measured, and why."""


class Tell(Protocol):
    """Says what is under way."""

    def __call__(self, what: str, /) -> None: ...  # noqa: D102 - the class says it


class Measure(Protocol):
    """Measures; in short if it is to be quick."""

    def __call__(self, *, quick: bool, tell: Tell) -> Found: ...  # noqa: D102


class Part(NamedTuple):
    """One part."""

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
