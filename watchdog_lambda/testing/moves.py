"""Moves an invocation in time. The watchdog's thread makes each move, between two looks."""

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
"""Real seconds to wait for something that must happen, before giving up."""

EPSILON = 1e-6  # seconds; more than the rounding error of an instant, too little to be noticed


class ClockError(BaseException):
    """Time cannot be moved as the test asks. The message says why, and what to do.

    Not an ``Exception``, like the exception of ``pytest.fail``: it is meant for the test, and the
    handler in between may catch every ``Exception``.
    """

    __module__ = "watchdog_lambda.testing"
    # Keep the context empty: otherwise an error raised in a cleanup would count as caused by the
    # interrupt, and the wrapper would raise LambdaTimeout instead.
    __context__ = None


moves: dict[Invocation, int] = {}
"""How often time has been moved for each invocation, by any thread."""


def move_back(invocation: Invocation, seconds: float) -> None:
    """Move an invocation's two instants, and everything that is derived from them.

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
        # The public details are frozen, and their deadline is an instant.
        object.__setattr__(stage.details, "deadline", invocation.hard)
        stage.wake()


def have_done(call: Callable[[], None], own: Invocation | None) -> None:
    """Run `call` on the watchdog's thread between two looks, and wait until it has returned.

    `own` is the invocation whose handler the calling thread runs, if any.

    Raises:
        ClockError: the watchdog's thread does not run.
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
        # Do not only ring: wake() also installs the nudge, if that has not happened yet.
        process_watchdog.wake(own)
    else:
        process_watchdog._alarm.ring()
    if not done.acquire(True, BOUND):
        raise ClockError("time does not pass: the watchdog thread is not running")
    if failures:
        raise failures[0]


def is_to_land(limit: Limit) -> bool:
    """Return whether a block's time is up and nothing has landed in it yet. Thread: the block's."""
    if not limit.is_open or limit.shields or limit.hard > SystemClock.monotonic():
        return False
    return limit.firing is None or not limit.firing.policy.records


def limits_of(thread_id: int, invocation: Invocation) -> list[Limit]:
    """Return the limits of the blocks in the invocation's thread, innermost first."""
    return [limit for limit in chain(innermost.get(thread_id)) if limit is not invocation]
