"""One setting: a row of the table in :mod:`._config`."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    Kind = Literal["text", "seconds", "word", "signal", "flag", "count", "namespace"]

PREFIX = "WATCHDOG_LAMBDA_"

LONGEST_TIMEOUT = 86_400.0
"""Seconds. Lambda allows 900. A value of more than a day is no deadline (the emulator's Managed
Instances mode gives 3,000,000)."""

LONGEST_GRACE_PERIOD = 225.0
"""Seconds: a quarter of the 900 s that Lambda allows. No grace period in force can be longer."""


MOST_SAMPLES = 100
"""The most samples per invocation. Each costs some 30 microseconds, and shares finer than 1 % are
of no use."""


class Setting:
    """One setting: its name, its allowed values, and its meaning. Immutable."""

    __slots__ = (
        "choices",
        "default",
        "example",
        "gone",
        "is_option",
        "kind",
        "meaning",
        "most",
        "name",
    )

    def __init__(
        self,
        default: Any,
        kind: Kind,
        meaning: str,
        *,
        example: str = "",
        most: float = LONGEST_GRACE_PERIOD,
        choices: tuple[str, ...] = (),
        gone: Mapping[str, str] | None = None,
        is_option: bool = True,
    ) -> None:
        self.default = default
        self.kind: Kind = kind
        self.meaning = meaning
        self.example = example or str(default)  # a valid value, for messages
        self.most = most  # the largest number
        self.choices = choices
        self.gone = gone or {}  # former choices, and the replacement of each
        self.is_option = is_option  # whether watch takes it; the others apply to the whole process

    def __set_name__(self, owner: type[object], name: str) -> None:
        self.name = name

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return PREFIX + self.name.upper()


def is_number(seconds: object) -> bool:
    """Return whether the value is a number of seconds. Thread: any."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return not math.isnan(seconds)
