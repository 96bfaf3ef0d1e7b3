"""What the policy and the kernel's timers need to know of an invocation; for type checkers only.

So that neither imports the module that holds all state, which imports them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from watchdog_lambda._plan import Plan

    from .clock import Timeline
    from .rungs import Kind


class Reported(Protocol):
    """A firing, as far as its report goes."""

    @property
    def is_reported(self) -> bool:
        """Whether its record has been written."""
        ...


class Limited(Protocol):
    """An invocation, or a block with a limit."""

    start: float

    @property
    def is_open(self) -> bool:
        """Whether interrupts may land in it."""
        ...

    @property
    def shields(self) -> int:
        """How many shields are up in it."""
        ...

    @property
    def plan(self) -> Plan:
        """What is to happen to it."""
        ...

    @property
    def firing(self) -> Reported | None:
        """What the watchdog does about it, once it does."""
        ...

    @property
    def first_kind(self) -> Kind:
        """What lands first in it."""
        ...

    def timeline(self) -> Timeline:
        """What is due when in it."""
        ...

    def message(self, after: float, place: str) -> str:
        """What an interrupt says."""
        ...
