"""What the soak invokes: one invocation as the watchdog sees it, and some thirty kinds of handlers.

Most of them are also called in a block that has a limit, or in two that are due at once, without an
invocation, or in one that is due at once with its block. :mod:`tools.soak_cell` runs all of these
and judges what they came to.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
import queue
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from watchdog_lambda import LambdaTimeout, TimeLimitExceeded, shield, time_limit, watch
from watchdog_lambda._engine.limits import of_thread
from watchdog_lambda._watched import wrap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from watchdog_lambda._config import Settings

    Handler = Callable[[Any, Any], Any]

_BEFORE: Final = 300e-6
"""Seconds before the watchdog is due from which on a handler computes."""
_OVERRUN: Final = 3.0  # seconds past its due that a handler goes on which only ends if interrupted
_SHARE: Final = 0.25  # of an invocation's time is its grace period, and of that its last call

BLOCK, BLOCKS, BOTH = "a block", "two blocks", "an invocation and a block"
"""What a handler is called in, other than an invocation."""

# ---- one invocation ------------------------------------------------------------------------------


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


# ---- handlers ------------------------------------------------------------------------------------
#
# Where it says ``shot.done = True; return shot.token`` no interrupt can land from the store on:
# stores and loads of attributes and returns are no check points of CPython 3.11 and later. So a
# timeout that leaves the guard after that store has replaced a finished result.


def _rest(shot: Shot) -> None:
    """Sleep through what comes before the race, so that the cells run side by side."""
    sleep(max(0.0, shot.due - _BEFORE - monotonic()))


def _spin_until(end: float) -> None:
    while monotonic() < end:
        pass


def _spins(_token: object, shot: Shot) -> object:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    shot.done = True
    return shot.token


def _ends_after(work: Callable[[Shot], object]) -> Handler:
    def handler(_token: object, shot: Shot) -> object:
        work(shot)
        shot.done = True
        return shot.token

    return handler


def _left(shot: Shot) -> float:
    return max(0.0, shot.end - monotonic())


def _get(shot: Shot) -> None:
    with contextlib.suppress(queue.Empty):
        queue.Queue[None]().get(timeout=_left(shot))


_sleeps = _ends_after(lambda shot: sleep(_left(shot)))
_waits = _ends_after(lambda shot: threading.Event().wait(_left(shot)))
_gets = _ends_after(_get)


def _cleans_up(_token: object, shot: Shot) -> object:
    _rest(shot)
    try:
        shot.entered = True
        while monotonic() < shot.end:
            pass
    finally:
        shot.cleaned = True
    shot.done = True
    return shot.token


def _fails(_token: object, shot: Shot) -> NoReturn:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    shot.raising = True
    raise shot.error


def _fails_after_sleep(_token: object, shot: Shot) -> NoReturn:
    sleep(_left(shot))
    shot.raising = True
    raise shot.error


def _swallows(_token: object, shot: Shot) -> object:
    _rest(shot)
    try:
        while monotonic() < shot.end:
            pass
    except Exception:  # noqa: BLE001 - what many handlers do
        shot.caught += 1
    shot.done = True
    return shot.token


def _swallows_on_and_on(_token: object, shot: Shot) -> object:
    while monotonic() < shot.due + _OVERRUN:
        try:
            for _ in range(100):
                pass
        except Exception:  # noqa: BLE001 - what retrying libraries do
            shot.caught += 1
    shot.done = True
    return shot.token


def _overrun(shot: Shot) -> None:
    _rest(shot)
    _spin_until(shot.due + _OVERRUN)


_overruns = _ends_after(_overrun)


def _oversleeps(seconds: float) -> Handler:
    return _ends_after(lambda shot: sleep(max(0.0, shot.due + seconds - monotonic())))


def _makes_timeouts(_token: object, shot: Shot) -> object:
    _rest(shot)
    while monotonic() < shot.end:
        LambdaTimeout(), TimeLimitExceeded()  # as code does that tests or wraps them
    shot.done = True
    return shot.token


def _ticks(end: float) -> Iterator[float]:
    while (now := monotonic()) < end:
        yield now


def _iterate(shot: Shot) -> None:
    _rest(shot)
    for _ in _ticks(shot.end):
        pass


_iterates = _ends_after(_iterate)


async def _awaits(_token: object, shot: Shot) -> object:
    await asyncio.sleep(_left(shot))
    shot.done = True
    return shot.token


async def _computes(_token: object, shot: Shot) -> object:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    shot.done = True
    return shot.token


_runs_a_loop = _ends_after(lambda shot: asyncio.run(asyncio.sleep(_left(shot))))
_loops: list[asyncio.AbstractEventLoop] = []


def _in_kept_loop(awaitable: Awaitable[object]) -> object:
    # As Mangum and Powertools' async processor do.
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    return _loops[0].run_until_complete(awaitable)


_keeps_a_loop = _ends_after(lambda shot: _in_kept_loop(asyncio.sleep(_left(shot))))

# Some 35 ms in one call of C code that looks at signals. The kernel's timer nudges after 20.
_holds_the_gil = _ends_after(lambda _shot: pow(3, 800_000))


def _shields(_token: object, shot: Shot) -> object:
    _rest(shot)
    try:
        with shield():
            shot.inside = True
            # In a function of its own: a loop's back edge right inside of a `with` is left out of
            # the exception table by CPython 3.13 (gh-130279).
            _spin_until(shot.end)
            shot.inside = False
    except BaseException:
        if monotonic() < shot.last_call_at():
            shot.shield_broken = shot.inside
            shot.open_shields = sum(i.shields for i in of_thread(threading.get_ident()))
        raise
    shot.done = True
    return shot.token


def _with_more(_more: object, token: object, shot: Shot) -> object:
    return _spins(token, shot)


def _largest(candidate: object) -> int:
    """Serve as the key of max(), a C function that calls back and then returns its argument."""
    if not isinstance(candidate, Shot):
        return 1
    _rest(candidate)
    while monotonic() < candidate.end:
        pass
    candidate.done = True
    return 0


class _Object:
    def __call__(self, token: object, shot: Shot) -> object:
        return _sleeps(token, shot)

    def method(self, token: object, shot: Shot) -> object:
        return _spins(token, shot)


def _only_spins(_token: object, shot: Shot) -> object:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    return shot.token


def _calls(inner: Handler) -> Handler:
    def outer(token: object, shot: Shot) -> object:
        result = inner(token, shot)
        shot.done = True
        return result

    return outer


class Kind(NamedTuple):
    name: str
    weight: float
    handler: Handler
    blocks: bool = False
    """At its end it waits outside of the GIL, so the watchdog need not wait for that."""
    endless: bool = False
    """Ends only if it is interrupted."""
    aims: bool = True
    """Ends when its invocation has it end."""
    length: float = 0.0
    """Seconds to the hard deadline; 0: drawn."""
    error: type[Exception] = OSError
    around: str = ""
    """What the handler is called in; empty for an invocation."""

    def watched(self, settings: Settings) -> Handler:
        """What is called for an invocation, or instead of one."""
        if not self.around:
            return wrap(self.handler, settings)
        is_async = inspect.iscoroutinefunction(self.handler)
        limited = (_limited_async if is_async else _limited)(self.handler, self.around)
        if self.around == BOTH:
            return wrap(limited, settings)
        return (lambda *given: _in_kept_loop(limited(*given))) if is_async else limited


# ---- blocks with a limit -------------------------------------------------------------------------


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
    nested = _calls(watch(_only_spins))
    nested_with_option = _calls(watch(grace_period=2.5)(_only_spins))
    cached = functools.lru_cache(maxsize=0)
    found = [
        Kind("spin", 14, _spins),
        Kind("sleep", 14, _sleeps, blocks=True),
        Kind("Event.wait", 6, _waits, blocks=True),
        Kind("Queue.get", 4, _gets, blocks=True),
        Kind("try/finally", 10, _cleans_up),
        Kind("own error", 8, _fails),
        Kind("own error after sleep", 4, _fails_after_sleep, blocks=True),
        Kind("StopIteration", 3, _fails, error=StopIteration),
        Kind("except Exception", 8, _swallows),
        Kind("generator", 3, _iterates),
        Kind("partial", 5, functools.partial(_with_more, "more")),
        Kind("partial, StopIteration", 2, functools.partial(_fails), error=StopIteration),
        Kind("C function", 4, functools.partial(max, key=_largest)),
        Kind("lru_cache", 2, cached(_spins)),
        Kind("callable object", 4, _Object(), blocks=True),
        Kind("bound method", 2, _Object().method),
        Kind("watched inside", 2, nested),
        Kind("watched inside, option", 1, nested_with_option),
        Kind("async def, waits", 2 * loops, _awaits, blocks=True),
        Kind("async def, computes", 2 * loops, _computes),
        Kind("asyncio.run", loops, _runs_a_loop, blocks=True, length=0.004),
        Kind("kept loop", loops, _keeps_a_loop, blocks=True),
        Kind("holds the GIL", 0.3, _holds_the_gil, aims=False),
        Kind("shield", 4, _shields),
        Kind("makes a LambdaTimeout", 2, _makes_timeouts),
        Kind("overrun", 3, _overruns, endless=True, aims=False),
        # A nudge ends a sleep, an injection does not.
        Kind("oversleep", 3, _oversleeps(_OVERRUN if is_nudge else 0.001), True, is_nudge, False),
        # Long enough for a second interrupt before last call.
        Kind("swallowing loop", 0.1, _swallows_on_and_on, False, True, False, length=0.2),
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
