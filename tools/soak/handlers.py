"""The handlers of the soak: each ends when its :class:`.Shot` says, if it is not interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic, sleep
from typing import Any, Final, NoReturn

from tools.soak.shot import Shot
from watchdog_lambda import LambdaTimeout, TimeLimitExceeded, shield
from watchdog_lambda._engine.limits import of_thread

Handler = Callable[[Any, Any], Any]


_BEFORE: Final = 300e-6  # seconds before the watchdog is due from which on a handler computes
OVERRUN: Final = 3.0  # seconds past its due that a handler goes on which only ends if interrupted


# Where it says ``shot.done = True; return shot.token`` no interrupt can land from the store on:
# stores and loads of attributes and returns are no check points of CPython 3.11 and later. So a
# timeout that leaves the guard after that store has replaced a finished result.


def _rest(shot: Shot) -> None:
    """Sleep through what comes before the race, so that the cells run side by side."""
    sleep(max(0.0, shot.due - _BEFORE - monotonic()))


def _spin_until(end: float) -> None:
    while monotonic() < end:
        pass


def spins(_token: object, shot: Shot) -> object:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    shot.done = True
    return shot.token


def ends_after(work: Callable[[Shot], object]) -> Handler:
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


sleeps = ends_after(lambda shot: sleep(_left(shot)))
waits = ends_after(lambda shot: threading.Event().wait(_left(shot)))
gets = ends_after(_get)


def cleans_up(_token: object, shot: Shot) -> object:
    _rest(shot)
    try:
        shot.entered = True
        while monotonic() < shot.end:
            pass
    finally:
        shot.cleaned = True
    shot.done = True
    return shot.token


def fails(_token: object, shot: Shot) -> NoReturn:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    shot.raising = True
    raise shot.error


def fails_after_sleep(_token: object, shot: Shot) -> NoReturn:
    sleep(_left(shot))
    shot.raising = True
    raise shot.error


def swallows(_token: object, shot: Shot) -> object:
    _rest(shot)
    try:
        while monotonic() < shot.end:
            pass
    except Exception:  # noqa: BLE001 - what many handlers do
        shot.caught += 1
    shot.done = True
    return shot.token


def swallows_on_and_on(_token: object, shot: Shot) -> object:
    while monotonic() < shot.due + OVERRUN:
        try:
            for _ in range(100):
                pass
        except Exception:  # noqa: BLE001 - what retrying libraries do
            shot.caught += 1
    shot.done = True
    return shot.token


def _overrun(shot: Shot) -> None:
    _rest(shot)
    _spin_until(shot.due + OVERRUN)


overruns = ends_after(_overrun)


def oversleeps(seconds: float) -> Handler:
    return ends_after(lambda shot: sleep(max(0.0, shot.due + seconds - monotonic())))


def makes_timeouts(_token: object, shot: Shot) -> object:
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


iterates = ends_after(_iterate)


async def awaits(_token: object, shot: Shot) -> object:
    await asyncio.sleep(_left(shot))
    shot.done = True
    return shot.token


async def computes(_token: object, shot: Shot) -> object:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    shot.done = True
    return shot.token


runs_a_loop = ends_after(lambda shot: asyncio.run(asyncio.sleep(_left(shot))))
_loops: list[asyncio.AbstractEventLoop] = []


def in_kept_loop(awaitable: Awaitable[object]) -> object:
    # As Mangum and Powertools' async processor do.
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    return _loops[0].run_until_complete(awaitable)


keeps_a_loop = ends_after(lambda shot: in_kept_loop(asyncio.sleep(_left(shot))))

# Some 35 ms in one call of C code that looks at signals. The kernel's timer nudges after 20.
holds_the_gil = ends_after(lambda _shot: pow(3, 800_000))


def shields(_token: object, shot: Shot) -> object:
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


def with_more(_more: object, token: object, shot: Shot) -> object:
    return spins(token, shot)


def largest(candidate: object) -> int:
    """Serve as the key of max(), a C function that calls back and then returns its argument."""
    if not isinstance(candidate, Shot):
        return 1
    _rest(candidate)
    while monotonic() < candidate.end:
        pass
    candidate.done = True
    return 0


class Service:
    def __call__(self, token: object, shot: Shot) -> object:
        return sleeps(token, shot)

    def method(self, token: object, shot: Shot) -> object:
        return spins(token, shot)


def only_spins(_token: object, shot: Shot) -> object:
    _rest(shot)
    while monotonic() < shot.end:
        pass
    return shot.token


def calls(inner: Handler) -> Handler:
    def outer(token: object, shot: Shot) -> object:
        result = inner(token, shot)
        shot.done = True
        return result

    return outer
