"""What a weather is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


class Unavailable(Exception):
    """This weather cannot be had here; the message says why."""


class Weather:
    """What goes on around the invocations. This one: nothing."""

    breaks_records: bool = False
    """Whether there may be too little of something for a whole record."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def begin(self) -> None:
        """Before the first invocation. Thread: main."""

    def around(self, _number: int) -> Iterator[None]:
        """Around each one. Thread: the handlers'."""
        yield

    def end(self) -> None:
        """After the last one. Thread: main."""
