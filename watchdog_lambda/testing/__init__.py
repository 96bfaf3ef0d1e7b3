"""Tools for your own tests: what does my handler do when its time is up?

Nothing here sleeps, and nothing is simulated: the watchdog of production runs the hooks and lands
the interrupt, on an invocation whose time has been moved. A test takes milliseconds::

    def test_out_of_time(monkeypatch):
        monkeypatch.setattr(app, "load_rows", expire)  # the time runs out in this call

        answer = app.handler({}, FakeContext())

        assert answer["statusCode"] == 504

For pytest there are the fixtures ``watchdog_context``, ``watchdog_clock``, ``watchdog_timeouts``
and ``watchdog_hooks``; ``pytest --fixtures`` describes them. Nothing here requires pytest.
"""

from __future__ import annotations

import math
from _thread import get_ident

from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import Interrupt, LambdaTimeout

from ._unwatched import why_unwatched
from .collected import isolated_hooks, timeout_records
from .context import FakeContext, advance_unwatched
from .moves import BOUND, ClockError
from .time_travel import find
from .waiting import is_interrupt_expected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .time_travel import TimeTravel

__all__ = [
    "Clock",
    "ClockError",
    "FakeContext",
    "async_expire",
    "clock",
    "expire",
    "isolated_hooks",
    "timeout_records",
]


class Clock:
    """Moves the time of the current invocation. The only instance is :data:`clock`."""

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass without waiting.

        Everything that becomes due on the way happens at its own instant, and this method waits for
        it. The hooks of every stage run. When the grace period begins, the interrupt lands here, in
        the caller, as in production; the remaining seconds then do not pass. In a shield or a
        cleanup no interrupt lands before last call, so time passes there as usual.

        In a thread that the handler has started, this moves the process's only invocation. The
        interrupt lands in the handler's thread, and then this returns. In a shutdown hook the time
        passes at once without waiting for anything, as if the hook exceeded its budget. Outside a
        watched invocation it moves only the time of :class:`FakeContext`.

        Raises:
            ClockError: not a number of seconds, or something that is due does not happen.

        Thread: any.
        """
        __tracebackhide__ = True
        if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
            raise ClockError(
                f"clock.advance({seconds!r}): not a number of seconds; use for example 5.0"
            )
        travel = find()
        if travel is None:
            advance_unwatched(seconds)
        else:
            travel.go_to(travel.elapsed + seconds)

    def __repr__(self) -> str:
        return "<watchdog_lambda.testing.clock>"


clock = Clock()
"""The controllable clock: call ``clock.advance(25.0)`` inside the handler."""


def expire(*_args: object, **_kwargs: object) -> None:
    """Stand in for a call that takes longer than the handler has left.

    Put it in place of a call that would block: ``monkeypatch.setattr(app, "load_rows", expire)`` or
    ``Mock(side_effect=expire)``. It accepts any arguments. When it is called, this thread's
    invocation reaches its grace period: the hooks run, and the interrupt lands in the caller. Each
    later call gets what would come next: another interrupt if the first was swallowed, or, inside
    a cleanup, the interrupt of last call.

    It returns only where production would continue as well: in a shield, where the interrupt lands
    at the end of the block; with ``interrupt="none"``; and in a thread that the handler has
    started, once the interrupt has landed in the handler's thread.

    Raises:
        LambdaTimeout: or ``Interrupt``: the interrupt that lands in the handler.
        ClockError: there is no watched invocation; or no interrupt is left to land, and Lambda
            would kill the process here.

    Thread: any.
    """
    __tracebackhide__ = True
    travel = _require("expire")
    if not travel.invocation.has_fired():
        travel.go_to(travel.timeline.grace_at)
        return
    if not travel.is_handlers or travel.is_hooks:
        return
    if is_interrupt_expected(travel.invocation) or _goes_on(travel):
        travel.land()
    else:
        # A cleanup blocks. Nothing interrupts it before last call.
        if travel.elapsed < travel.timeline.last_call_at:
            travel.go_to(travel.timeline.last_call_at)
        _end(travel)


async def async_expire(*_args: object, **_kwargs: object) -> None:
    """Stand in for an awaitable that takes longer than an ``async def`` handler has left.

    Works like :func:`expire`, for what the handler awaits: the interrupt lands while the loop
    waits, and the handler's task gets ``CancelledError``, as in production.

    Raises:
        asyncio.CancelledError: where it is awaited.
        ClockError: as :func:`expire` does.

    Thread: the handler's.
    """
    __tracebackhide__ = True
    travel = _require("async_expire")
    after: float | None = None
    if not travel.invocation.has_fired():
        after = travel.timeline.grace_at
    elif not is_interrupt_expected(travel.invocation) and not _goes_on(travel):
        # A cleanup awaits. Nothing interrupts it before last call; after it no interrupt comes any
        # more, and the wrapper no longer waits for the cleanup.
        after = travel.timeline.last_call_at
    if after is not None:
        travel.approach(after)
    if not travel.is_handlers or _goes_on(travel):
        expire()  # returns once the hooks have run
        return
    import asyncio  # noqa: PLC0415 - a loop is running, so asyncio is loaded

    loop = asyncio.get_running_loop()
    never: asyncio.Future[None] = loop.create_future()
    if not process_watchdog.nudge.reaches(get_ident()):
        _keep_turning(loop, never)
    try:
        async with asyncio.timeout(BOUND):
            await never
    except (asyncio.CancelledError, LambdaTimeout, Interrupt):
        travel.realign(after)
        raise
    except TimeoutError:
        raise ClockError(f"the interrupt has not landed: {travel.why_nothing_lands()}") from None
    finally:
        never.cancel()


def _require(name: str) -> TimeTravel:
    travel = find()
    if travel is None:
        raise ClockError(why_unwatched(name))
    return travel


def _goes_on(travel: TimeTravel) -> bool:
    """Return whether the handler would continue in production as well."""
    invocation = travel.invocation
    if invocation.plan.settings.interrupt == "none":
        return True
    return bool(invocation.shields) and travel.elapsed < travel.timeline.last_call_at


def _end(travel: TimeTravel) -> None:
    """Advance to the hard deadline and raise: no interrupt is left to land."""
    __tracebackhide__ = True
    travel.go_to(travel.timeline.limit)
    raise ClockError(
        "expire(): the hard deadline has passed, and no more interrupts land: the handler has "
        "caught last call's, and is still cleaning up. Lambda would kill the process here"
    )


def _keep_turning(loop: Any, never: Any) -> None:
    """Keep the loop awake: off the main thread nothing wakes a loop in its wait."""

    def turn() -> None:
        if not never.done():
            loop.call_later(0.001, turn)

    turn()
