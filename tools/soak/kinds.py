"""The kinds of invocations that the soak draws from.

Most handlers are also called in a block that has a limit, or in two that are due at once, without
an invocation, or in one that is due at once with its block.
"""

from __future__ import annotations

import functools
import inspect
from time import monotonic
from typing import NamedTuple

from tools.soak import handlers as h
from tools.soak.handlers import Handler
from tools.soak.shot import BLOCK, BLOCKS, BOTH, Shot
from watchdog_lambda import time_limit, watch
from watchdog_lambda._config import Settings
from watchdog_lambda._watched import wrap


class Kind(NamedTuple):
    name: str
    weight: float
    handler: Handler
    blocks: bool = False
    """At its end it waits outside of the GIL, so the watchdog need not wait for that."""
    endless: bool = False  # ends only if it is interrupted
    aims: bool = True  # ends when its invocation has it end
    length: float = 0.0  # seconds to the hard deadline; 0: drawn
    error: type[Exception] = OSError
    around: str = ""  # what the handler is called in; empty for an invocation

    def watched(self, settings: Settings) -> Handler:
        """What is called for an invocation, or instead of one."""
        if not self.around:
            return wrap(self.handler, settings)
        is_async = inspect.iscoroutinefunction(self.handler)
        limited = (_limited_async if is_async else _limited)(self.handler, self.around)
        if self.around == BOTH:
            return wrap(limited, settings)
        return (lambda *given: h.in_kept_loop(limited(*given))) if is_async else limited


def _limit(shot: Shot) -> time_limit:
    """One more block of this shot's, due when an invocation of its length would be."""
    if not shot.started:
        shot.get_remaining_time_in_millis()
    shot.limits.append(time_limit(shot.due - monotonic()))
    return shot.limits[-1]


def _show(shot: Shot) -> None:
    """Have the watchdog leave its instants where it does for an invocation."""
    for limit in shot.limits:
        limit._limit.context = shot  # type: ignore[union-attr]  # noqa: SLF001


def _stay() -> None:
    """Be where what comes too late for a block would land."""
    for i in range(20):
        str(i)


def _limited(handler: Handler, around: str) -> Handler:
    def one(token: object, shot: Shot) -> object:
        with _limit(shot):
            _show(shot)
            result = handler(token, shot)
        if around != BOTH:  # there the invocation's own may land
            _stay()
        return result

    def two(token: object, shot: Shot) -> object:
        with _limit(shot), _limit(shot):
            _show(shot)
            result = handler(token, shot)
        _stay()
        return result

    return two if around == BLOCKS else one


def _limited_async(handler: Handler, around: str) -> Handler:
    async def one(token: object, shot: Shot) -> object:
        async with _limit(shot):
            _show(shot)
            result = await handler(token, shot)
        if around != BOTH:
            _stay()
        return result

    async def two(token: object, shot: Shot) -> object:
        async with _limit(shot), _limit(shot):
            _show(shot)
            result = await handler(token, shot)
        _stay()
        return result

    return two if around == BLOCKS else one


def kinds(delivery: str) -> list[Kind]:
    """What is drawn from, for one way of delivery."""
    is_nudge = delivery == "nudge"
    # An injection that strikes the callback which stops a loop leaves it waiting, and breaks no
    # wait. So loops are not among what is drawn for it; --only has them.
    loops = float(is_nudge)
    nested = h.calls(watch(h.only_spins))
    nested_with_option = h.calls(watch(grace_period=2.5)(h.only_spins))
    cached = functools.lru_cache(maxsize=0)
    found = [
        Kind("spin", 14, h.spins),
        Kind("sleep", 14, h.sleeps, blocks=True),
        Kind("Event.wait", 6, h.waits, blocks=True),
        Kind("Queue.get", 4, h.gets, blocks=True),
        Kind("try/finally", 10, h.cleans_up),
        Kind("own error", 8, h.fails),
        Kind("own error after sleep", 4, h.fails_after_sleep, blocks=True),
        Kind("StopIteration", 3, h.fails, error=StopIteration),
        Kind("except Exception", 8, h.swallows),
        Kind("generator", 3, h.iterates),
        Kind("partial", 5, functools.partial(h.with_more, "more")),
        Kind("partial, StopIteration", 2, functools.partial(h.fails), error=StopIteration),
        Kind("C function", 4, functools.partial(max, key=h.largest)),
        Kind("lru_cache", 2, cached(h.spins)),
        Kind("callable object", 4, h.Service(), blocks=True),
        Kind("bound method", 2, h.Service().method),
        Kind("watched inside", 2, nested),
        Kind("watched inside, option", 1, nested_with_option),
        Kind("async def, waits", 2 * loops, h.awaits, blocks=True),
        Kind("async def, computes", 2 * loops, h.computes),
        Kind("asyncio.run", loops, h.runs_a_loop, blocks=True, length=0.004),
        Kind("kept loop", loops, h.keeps_a_loop, blocks=True),
        Kind("holds the GIL", 0.3, h.holds_the_gil, aims=False),
        Kind("shield", 4, h.shields),
        Kind("makes a LambdaTimeout", 2, h.makes_timeouts),
        Kind("overrun", 3, h.overruns, endless=True, aims=False),
        # A nudge ends a sleep, an injection does not.
        Kind("oversleep", 3, h.oversleeps(h.OVERRUN if is_nudge else 0.001), True, is_nudge, False),
        # Long enough for a second interrupt before last call.
        Kind("swallowing loop", 0.1, h.swallows_on_and_on, False, True, False, length=0.2),
    ]
    for kind in found.copy():
        if inspect.isfunction(kind.handler) and kind.handler not in {nested, nested_with_option}:
            # A coroutine that waits is cancelled through its task, whatever the thread.
            weight = kind.weight or 2.0 * inspect.iscoroutinefunction(kind.handler)
            found += [
                kind._replace(name=f"{kind.name} in {around}", weight=share, around=around)
                for around, share in ((BLOCK, weight / 8), (BLOCKS, weight / 8))
            ]
            found.append(
                kind._replace(name=f"{kind.name} in {BOTH}", weight=kind.weight / 8, around=BOTH)
            )
    return found
