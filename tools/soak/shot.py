"""One invocation of the soak, and when its handler is to end: about when the watchdog acts."""

# When it acts is internal to the core.
# ruff: noqa: SLF001

from __future__ import annotations

import collections
import math
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from watchdog_lambda import time_limit
from watchdog_lambda._engine.press import Press
from watchdog_lambda._engine.watchdog import WatchdogThread

if TYPE_CHECKING:
    from tools.soak.kinds import Kind  # which imports this module

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


class Aim:
    """How long after it is due the watchdog acts: a running median for each case.

    Learnt from the handlers that are still running then: the others show only the early ones.
    """

    _STEP: Final = 2e-6

    def __init__(self) -> None:
        self.fired: dict[Any, float] = collections.defaultdict(lambda: 100e-6)
        self.pressed: dict[Any, float] = collections.defaultdict(lambda: 250e-6)

    @staticmethod
    def case(kind: Kind) -> object:
        """Whether the handler blocks, and what it is called in."""
        return kind.blocks, kind.around

    def learn(self, shot: Shot) -> None:
        case = self.case(shot.kind)
        for median, instant in ((self.fired, shot.fired), (self.pressed, shot.pressed)):
            if instant:
                later = instant - shot.due > median[case]
                median[case] += self._STEP if later else -self._STEP


class Probe:
    woke = 0.0  # the watchdog's last wake-up


def watch_the_watchdog() -> None:
    """Have it leave the instants of its acts on the invocation's context, which is a shot."""
    look = WatchdogThread._look
    advance = WatchdogThread._advance
    press = Press.step

    def stamped_look(*arguments: Any) -> float:
        Probe.woke = monotonic()
        return look(*arguments)

    def stamped_advance(self: Any, invocation: Any, *rest: Any) -> float:
        # A block's limit has none before the block's first line.
        if invocation.context is not None and not invocation.context.fired:
            invocation.context.fired = monotonic()
        return advance(self, invocation, *rest)

    def stamped_press(self: Any, *rest: Any) -> float:
        context: Any = self._firing.invocation.context
        if context is not None and not context.pressed:
            context.pressed = monotonic()
        return press(self, *rest)

    WatchdogThread._look = stamped_look  # type: ignore[method-assign,assignment]
    WatchdogThread._advance = stamped_advance  # type: ignore[method-assign,assignment]
    Press.step = stamped_press  # type: ignore[method-assign,assignment]
