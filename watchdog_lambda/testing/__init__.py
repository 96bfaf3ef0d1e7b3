"""For tests of your own: what does my handler do when its time is up?

Nothing here sleeps, and nothing is simulated: the watchdog of production runs the hooks and lands
the interrupt, on an invocation whose time has been moved. A test takes milliseconds::

    def test_out_of_time(monkeypatch):
        monkeypatch.setattr(app, "load_rows", expire)  # its time is up in there

        answer = app.handler({}, FakeContext())

        assert answer["statusCode"] == 504

Under pytest there are fixtures, ``watchdog_context``, ``watchdog_clock``, ``watchdog_timeouts`` and
``watchdog_hooks``; ``pytest --fixtures`` describes them. Nothing here needs pytest.
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
    """Moves the time of the invocation under way. There is one, :data:`clock`."""

    def advance(self, seconds: float) -> None:
        """Let time pass, in no time.

        What is due on the way happens at its own instant, and is waited for: the hooks of every
        stage run, and where the grace period begins the interrupt lands, here, in the caller, as in
        production; the rest of the seconds then does not pass. Before last call, a shield and a
        cleanup are left alone, so there time goes on.

        In a thread that the handler has started it moves the process's one invocation; the
        interrupt lands in the handler's thread, and this returns then. In a shutdown hook the time
        passes at once and nothing is waited for: a hook that takes longer than its budget. Outside
        of a watched invocation it moves only what :class:`FakeContext` counts.

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
"""The controllable clock: ``clock.advance(25.0)`` inside of the handler."""


def expire(*_args: object, **_kwargs: object) -> None:
    """Stand for a call that takes longer than the handler has time.

    Put it in the place of what would block, ``monkeypatch.setattr(app, "load_rows", expire)`` or
    ``Mock(side_effect=expire)``; it takes any arguments. The invocation of this thread has then
    reached its grace period: the hooks run, and the interrupt lands in the caller. Every later call
    gets what comes next: the interrupt that follows a swallowed one, and in a cleanup, which is
    left alone, that of last call.

    Returns only where production would go on, too: in a shield, at whose end the interrupt lands;
    with ``interrupt="none"``; and in a thread that the handler has started, once the interrupt has
    landed in the handler's own.

    Raises:
        LambdaTimeout: or ``Interrupt``, whichever is due: what lands in the handler.
        ClockError: no watched invocation is under way; or nothing lands any more, and Lambda would
            kill the process here.

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
        # A cleanup that blocks: left alone until last call.
        if travel.elapsed < travel.timeline.last_call_at:
            travel.go_to(travel.timeline.last_call_at)
        _end(travel)


async def async_expire(*_args: object, **_kwargs: object) -> None:
    """Stand for an awaitable that takes longer than an ``async def`` handler has time.

    As :func:`expire`, for what the handler awaits: the interrupt lands while the loop waits, and
    the handler's task sees ``CancelledError``, as in production.

    Raises:
        asyncio.CancelledError: where it is awaited.
        ClockError: as from :func:`expire`.

    Thread: the handler's.
    """
    __tracebackhide__ = True
    travel = _require("async_expire")
    after: float | None = None
    if not travel.invocation.has_fired():
        after = travel.timeline.grace_at
    elif not is_interrupt_expected(travel.invocation) and not _goes_on(travel):
        # A cleanup that awaits: left alone until last call. After that nothing comes, and the
        # wrapper waits no longer for it.
        after = travel.timeline.last_call_at
    if after is not None:
        travel.approach(after)
    if not travel.is_handlers or _goes_on(travel):
        expire()  # returns once the hooks have run
        return
    import asyncio  # noqa: PLC0415 - a loop runs, so it is there

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
    """Whether production would let the handler go on, too."""
    invocation = travel.invocation
    if invocation.plan.settings.interrupt == "none":
        return True
    return bool(invocation.shields) and travel.elapsed < travel.timeline.last_call_at


def _end(travel: TimeTravel) -> None:
    """Nothing lands any more: go on to where Lambda kills."""
    __tracebackhide__ = True
    travel.go_to(travel.timeline.limit)
    raise ClockError(
        "expire(): the hard deadline has passed, and no interrupt lands any more: last call's has "
        "been caught, and its cleanup goes on. Lambda would kill the process here"
    )


def _keep_turning(loop: Any, never: Any) -> None:
    """Off the main thread nothing wakes a loop that waits, so it must not wait long."""

    def turn() -> None:
        if not never.done():
            loop.call_later(0.001, turn)

    turn()
