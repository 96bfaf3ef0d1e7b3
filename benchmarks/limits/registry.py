"""A call that is measured: its name, its label on the page, and a way to set it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

Block = Callable[[], object]
"""Blocks, for far longer than anybody measures."""
Prepare = Callable[[], Block]

LONG: Final = 60.0
"""Seconds for what takes a timeout: it is not reached."""

_Thing = TypeVar("_Thing")
_kept: list[object] = []


class Call(NamedTuple):
    """One way for a handler to block."""

    name: str
    label: str
    """For the page, in Markdown."""
    prepare: Prepare
    """Sets it up, which may take a while, and gives what then blocks."""
    is_quick: bool
    """Whether it stands for others of its kind in a short run."""

    @property
    def plain_label(self) -> str:
        """The label where there is no Markdown."""
        return self.label.replace("`", "")


class Group:
    """The calls under one heading of the page."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.calls: list[Call] = []

    def add(self, name: str, label: str, prepare: Prepare, *, quick: bool = False) -> None:
        """Add a call; `prepare` sets it up, and `label` is what a reader knows it by."""
        self.calls.append(Call(name, label, prepare, quick))

    def call(self, *, quick: bool = False) -> Callable[[Prepare], None]:
        """Add a function that sets a call up: its name is the call's, its docstring the label."""

        def add(prepare: Prepare) -> None:
            label = (prepare.__doc__ or "").removesuffix(".")
            self.add(prepare.__name__.replace("_", "-"), label, prepare, quick=quick)

        return add


def keep(thing: _Thing) -> _Thing:
    """Keep it alive as long as the process: a server that is collected is silent no more."""
    _kept.append(thing)
    return thing
