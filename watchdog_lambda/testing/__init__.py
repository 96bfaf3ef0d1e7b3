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

import json
import math
import sys
from _thread import get_ident

from watchdog_lambda import _hooks, _report
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.invocation import active
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import Interrupt, LambdaTimeout

from ._unwatched import why_unwatched
from .time_travel import BOUND, ClockError, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from watchdog_lambda._hooks import Hook

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

_advanced = 0.0
"""Seconds by which time has been moved outside of any watched invocation."""

_LONGEST = 900.0  # as in Lambda


class FakeContext:
    """A Lambda context for tests, with everything that the real one has.

    Its time runs from the start of the watched invocation that it is given to, each time anew, and
    in a handler that is not watched from when it was made. Real time counts, and so does
    :meth:`Clock.advance`; :func:`~watchdog_lambda.remaining_time` and
    :meth:`get_remaining_time_in_millis` always agree.

    Args:
        timeout: the function's timeout in seconds: more than 0, 900 at most, as in Lambda.
        function_name: the rest is what the attributes of these names give.
        function_version: as in Lambda.
        aws_request_id: the same in every context, unless you give one.
        memory_limit_in_mb: a string, as the real context has it.
        invoked_function_arn: made of the name if you give none.
        log_group_name: made of the name, too.
        log_stream_name: as in Lambda.
        identity: of Amazon Cognito; without one, its two ids are None.
        client_context: of the mobile SDK.
        tenant_id: of a function with tenant isolation.

    Raises:
        ValueError: a timeout that no function can have.

    Thread: any.
    """

    def __init__(
        self,
        timeout: float = 30.0,
        *,
        function_name: str = "test-function",
        function_version: str = "$LATEST",
        aws_request_id: str = "11111111-2222-4333-8444-555555555555",
        memory_limit_in_mb: str | int = "128",
        invoked_function_arn: str | None = None,
        log_group_name: str | None = None,
        log_stream_name: str = "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
        identity: Any = None,
        client_context: Any = None,
        tenant_id: str | None = None,
    ) -> None:
        if not (isinstance(timeout, int | float) and 0 < timeout <= _LONGEST):
            raise ValueError(
                f"FakeContext(timeout={timeout!r}): not a function's timeout, which is more than 0 "
                f"and at most {_LONGEST:g} s: seconds, not milliseconds? use for example 30.0"
            )
        self.timeout = timeout
        self.function_name = function_name
        self.function_version = function_version
        self.aws_request_id = aws_request_id
        self.memory_limit_in_mb = memory_limit_in_mb
        self.invoked_function_arn = invoked_function_arn or (
            f"arn:aws:lambda:us-east-1:123456789012:function:{function_name}"
        )
        self.log_group_name = log_group_name or f"/aws/lambda/{function_name}"
        self.log_stream_name = log_stream_name
        self.identity = FakeIdentity() if identity is None else identity
        self.client_context = client_context
        self.tenant_id = tenant_id
        self._hard = 0.0
        self._advanced = 0.0
        self._begin()

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds to the hard deadline, never below 0."""
        if is_ours(sys._getframe(1).f_code):
            self._begin()  # a watched invocation begins, and asks how long it has
            return max(1, round(self.timeout * 1000))
        for invocation in list(active.values()):
            if invocation.context is self:
                self._hard, self._advanced = invocation.hard, _advanced
        left = self._hard - SystemClock.monotonic() - (_advanced - self._advanced)
        return max(0, int(left * 1000))

    def log(self, message: object) -> None:
        """Write to standard output, as the real one does where no runtime listens."""
        sys.stdout.write(str(message))

    def w3c(self) -> dict[str, str]:
        """The W3C trace context of the invocation: none."""
        return {}

    def __repr__(self) -> str:
        return (
            f"FakeContext(timeout={self.timeout!r}, function_name={self.function_name!r}, "
            f"aws_request_id={self.aws_request_id!r})"
        )

    def _begin(self) -> None:
        self._hard = SystemClock.monotonic() + self.timeout
        self._advanced = _advanced

    def _watchdog_move_back(self, seconds: float) -> None:
        """Its invocation moves in time. Thread: watchdog."""
        self._hard -= seconds


class FakeIdentity:
    """The Cognito identity of an invocation without one."""

    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None


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
        global _advanced  # noqa: PLW0603 - time is one for the process
        if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
            raise ClockError(
                f"clock.advance({seconds!r}): not a number of seconds; use for example 5.0"
            )
        travel = find()
        if travel is None:
            _advanced += seconds
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

    Returns only where production would go on, too: behind a shield, whose end the interrupt lands
    at; with ``interrupt="none"``; and in a thread that the handler has started, once the interrupt
    has landed in the handler's own.

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
    if travel.is_interrupt_expected() or _goes_on(travel):
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
    elif not travel.is_interrupt_expected() and not _goes_on(travel):
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


class timeout_records:  # noqa: N801 - used like a function
    """Collect the records of timeouts: ``with timeout_records() as timeouts: ...``.

    A list of dicts, each as it goes to the log, where it is written all the same (pytest captures
    it). One is there as soon as the handler has returned or raised.

    Thread: any; the records of all threads are collected.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def __enter__(self) -> list[dict[str, Any]]:
        _report.listeners.append(self._listen)
        return self.records

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _report.listeners.remove(self._listen)

    def _listen(self, record: dict[str, Any]) -> None:
        self.records.append(json.loads(json.dumps(record, default=str)))


class isolated_hooks:  # noqa: N801 - used like a function
    """Forget at the end of a block which shutdown hooks were registered in it.

    ``with isolated_hooks(): ...``. Hooks from before stay, and those that were removed come back.
    Import the module under test outside of the block: its hooks are registered only once.

    Thread: any, one at a time.
    """

    def __init__(self) -> None:
        self._shared: dict[int, Hook] = {}
        self._staged: dict[int, Hook] = {}

    def __enter__(self) -> None:
        self._shared = dict(_hooks.shared._hooks)
        self._staged = dict(_hooks.staged)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for registered, before in (
            (_hooks.shared._hooks, self._shared),
            (_hooks.staged, self._staged),
        ):
            registered.clear()
            registered.update(before)


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
