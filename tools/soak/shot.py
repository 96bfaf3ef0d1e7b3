"""One invocation of the soak, as the watchdog sees it."""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tools.soak.kinds import Kind
    from watchdog_lambda import time_limit

BLOCK, BLOCKS, BOTH = "a block", "two blocks", "an invocation and a block"
"""What a handler is called in, other than an invocation."""

_SHARE: Final = 0.25  # of an invocation's time is its grace period, and of that its last call


class Shot:
    """One invocation: the context that the watchdog reads, and what its handler got to do."""

    function_name = "soak"
    function_version = "1"

    def __init__(self, number: int, kind: Kind, length: float, offset: float) -> None:
        self.number = number
        self.kind = kind
        self.length = length  # seconds to the hard deadline
        self.offset = offset  # of the handler's end from the instant at which the watchdog is due
        self.token = object()  # what the handler returns
        self.error = kind.error(f"the error of invocation {number}")  # or raises
        self.started = self.due = self.end = 0.0
        self.fired = self.pressed = 0.0  # by the watchdog thread: began to act, sent the interrupt
        self.done = self.raising = False  # the last thing before return, and before raise
        self.caught = 0
        self.entered = self.cleaned = False
        self.inside = self.shield_broken = False
        self.open_shields = 0
        self.limits: list[time_limit] = []  # the blocks that the handler is called in

    @property
    def aws_request_id(self) -> str:
        return str(self.number)

    def get_remaining_time_in_millis(self) -> float:
        # The guard reads the clock right after this, so these are the watchdog's own instants, but
        # for a fraction of a microsecond.
        self.started = monotonic()
        self.due = self.started + self.length * (1 - _SHARE)
        self.end = self.due + self.offset
        return self.length * 1000

    def last_call_at(self) -> float:
        if self.kind.around in {BLOCK, BLOCKS}:
            return math.inf
        return self.started + self.length * (1 - _SHARE * _SHARE)
