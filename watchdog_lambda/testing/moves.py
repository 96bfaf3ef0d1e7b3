"""The moves of an invocation in time, each made by the watchdog's thread between two looks."""

from __future__ import annotations

from _thread import allocate_lock

from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.limits import chain, innermost
from watchdog_lambda._process import process_watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog_lambda._engine.invocation import Invocation
    from watchdog_lambda._engine.limits import Limit

BOUND = 10.0
"""Seconds, real ones, after which something that must come has not come."""

EPSILON = 1e-6  # seconds: beyond the rounding of an instant, below what anybody can see


class ClockError(BaseException):
    """Time cannot be moved as the test asks; the message says why, and what to do.

    Not an ``Exception``, as ``pytest.fail`` raises none either: it is meant for the test, and the
    handler in between may well catch every ``Exception``.
    """

    __module__ = "watchdog_lambda.testing"
    # One raised in a cleanup is not made of the interrupt; else LambdaTimeout would take its place.
    __context__ = None


moves: dict[Invocation, int] = {}
"""How often time has been moved for each invocation, by whichever thread."""


def move_back(invocation: Invocation, seconds: float) -> None:
    """Move an invocation's two instants, and those who count from them.

    Everything else about an invocation is in seconds since its start.

    Thread: watchdog, between two looks.
    """
    invocation.start -= seconds
    invocation.due -= seconds
    move_context = getattr(invocation.context, "_watchdog_move_back", None)
    if move_context is not None:
        move_context(seconds)
    firing = invocation.firing
    if firing is None:
        return
    firing.stopwatch.start = invocation.start
    for stage in firing.stages:
        # What hooks are told is frozen, and public: its deadline is an instant.
        object.__setattr__(stage.details, "deadline", invocation.hard)
        stage.wake()


def have_done(call: Callable[[], None], own: Invocation | None) -> None:
    """Have the watchdog's thread do something between two looks, and wait until it is done.

    `own` is the invocation that the calling thread runs the handler of.

    Raises:
        ClockError: the thread does not run.
    """
    done = allocate_lock()
    done.acquire()
    failures: list[Exception] = []

    def do() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the thread must outlive it
            failures.append(error)
        finally:
            done.release()

    process_watchdog.pending_calls.append(do)
    if own is not None:
        # Not only rung: the nudge may not have been installed yet.
        process_watchdog.wake(own)
    else:
        process_watchdog._alarm.ring()
    if not done.acquire(True, BOUND):
        raise ClockError("time does not pass: the watchdog thread does not run")
    if failures:
        raise failures[0]


def is_to_land(limit: Limit) -> bool:
    """Whether a block's time is up, and nothing has landed in it. Thread: the block's."""
    if not limit.is_open or limit.shields or limit.hard > SystemClock.monotonic():
        return False
    return limit.firing is None or not limit.firing.policy.records


def limits_of(thread_id: int, invocation: Invocation) -> list[Limit]:
    """The limits of the blocks in a thread of the `invocation`, the innermost first."""
    return [limit for limit in chain(innermost.get(thread_id)) if limit is not invocation]
