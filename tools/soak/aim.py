"""When the watchdog acts, and so when the soak's handlers are to end."""

# When it acts is internal to the core.
# ruff: noqa: SLF001

from __future__ import annotations

import collections
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from watchdog_lambda._engine.press import Press
from watchdog_lambda._engine.watchdog import WatchdogThread

if TYPE_CHECKING:
    from tools.soak.kinds import Kind
    from tools.soak.shot import Shot


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
