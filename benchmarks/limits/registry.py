"""A call that is measured: its name, its label on the page, and a way to set it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Block = Callable[[], object]
    """Blocks, for far longer than anybody measures."""
    Prepare = Callable[[], Block]

_Thing = TypeVar("_Thing")
_kept: list[object] = []


class Call(NamedTuple):
    """One way for a handler to block."""

    name: str
    group: str
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


class Unavailable(Exception):
    """This call cannot be made here; the message says why."""


class Group:
    """The calls under one heading of the page."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.calls: list[Call] = []

    def call(self, *, quick: bool = False) -> Callable[[Prepare], Prepare]:
        """Add a function that sets a call up: its name is the call's, its docstring the label.

        The label is what a reader knows the call by; a full stop at its end is dropped.
        """

        def add(prepare: Prepare) -> Prepare:
            name = prepare.__name__.replace("_", "-")
            label = (prepare.__doc__ or name).removesuffix(".")
            self.calls.append(Call(name, self.title, label, prepare, quick))
            return prepare

        return add


def keep(thing: _Thing) -> _Thing:
    """Keep it alive as long as the process: a server that is collected is silent no more."""
    _kept.append(thing)
    return thing
