"""The guard around a handler: arm, call, settle.

``guarded`` inside of :func:`guard` is the hot path: what every invocation pays. Whatever a normal
one does not need is a call away from it.

On the main thread no interrupt ever lands in these frames: the nudge's handler puts it off. On
other threads one that was injected can land at any check point until :meth:`Firing.settle` has
returned.
"""

from __future__ import annotations

import functools
import math
import types
from _thread import get_ident

from ._async import as_function, call_opaque, is_coroutine_function
from ._config import GRACE_SHARE, SAMPLES_SHARE
from ._engine.current import active, leave, make
from ._engine.limits import end_within
from ._hooks import staged
from ._log import warn_once
from ._outcome import conclude
from ._process import process_watchdog
from ._report import metrics
from ._setting import LONGEST_TIMEOUT
from .errors import Interrupt, LambdaTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._engine.invocation import Invocation
    from ._engine.watchdog import WatchdogThread
    from ._plan import Plan

    TwoArguments = Callable[[Any, Any], Any]

# What is raised where the context is none, or gives no time. Not Exception: an error that a timer
# of the user raises in here must get through.
_NO_TIME = (AttributeError, TypeError, ValueError, ArithmeticError, LookupError)


def guard(
    handler: Callable[..., Any], plan: Plan, watchdog: WatchdogThread = process_watchdog
) -> TwoArguments:
    """A function of event and context that calls `handler`, watched."""
    metrics.preload(plan.settings.metrics_namespace)
    call = _plain(handler)
    # CPython looks a module's names up more slowly.
    invocations, thread_id, monotonic = active, get_ident, watchdog.clock.monotonic
    # When the watchdog must look first: at half of the time, to take the first sample, or else at
    # the grace period.
    grace_period = plan.settings.grace_period
    is_sampled = plan.settings.samples > 0
    share = SAMPLES_SHARE if is_sampled else 1 - GRACE_SHARE
    longest_shared = math.inf if is_sampled else grace_period / GRACE_SHARE
    # The function's caller may give up before Lambda does, and a context may be wrong.
    timeout = plan.settings.timeout
    longest = LONGEST_TIMEOUT if timeout is None else timeout

    def guarded(event: Any, context: Any) -> Any:
        ident = thread_id()
        try:
            invocation = invocations[ident]
        except KeyError:
            invocation = make(ident, plan)
        if invocation.is_open:
            return _call_within(invocation, plan, call, event, context)
        if invocation.is_seen:
            invocation = make(ident, plan)
        remaining_ms: Any = None
        try:
            remaining_ms = context.get_remaining_time_in_millis()
            remaining = remaining_ms * 0.001
            if not 0.0 < remaining <= longest:
                remaining = timeout
        except _NO_TIME:
            remaining = timeout
        if remaining is None:
            _explain(context, remaining_ms)
            return call(event, context)
        start = monotonic()
        due = start + (
            remaining * share if remaining < longest_shared else remaining - grace_period
        )
        # Not one call from here to where it is opened: a signal handler of the user's that runs in
        # between could call a watched handler itself. Pinned by
        # test_there_is_no_check_point_while_an_invocation_is_armed.
        invocation.plan = plan
        invocation.event = event
        invocation.context = context
        invocation.start = start
        invocation.limit = remaining
        invocation.due = due
        result: Any = None
        failure: BaseException | None = None
        try:
            try:
                # Inside of the try: from the first of these lines on the watchdog can act.
                invocation.is_open = True
                if staged:
                    invocation.reschedule()
                    due = invocation.due
                if due < watchdog.wake_at:
                    watchdog.wake(invocation)
                result = call(event, context)
                # CPython has no check point between the handler's return, the store of its result
                # and this one: what has been returned cannot be taken back by anything that lands.
                invocation.is_open = False
            except BaseException as error:
                # Store the error before closing: an interrupt may land between these lines.
                failure = error
                invocation.is_open = False
                if invocation.firing is None:
                    failure = None  # its traceback holds this frame
                    end_within(invocation, ident)
                    leave(ident, invocation, watchdog.kernel_timers)
                    raise
                if result is not None and isinstance(error, LambdaTimeout | Interrupt):
                    failure = None  # the handler had returned; see below
                # Settle inside of `except`: leaving it is a backward jump, a check point at which
                # 3.11 and 3.12 use the wrong entry of the exception table. Pinned by
                # test_an_injection_that_lands_in_settle_leaves_the_result.
                invocation.firing.settle()
            else:
                # After closing: a look in between would share the object; see _engine.current.
                if not invocation.is_seen:
                    invocation.event = invocation.context = None
                    return result
                if invocation.firing is None:
                    end_within(invocation, ident)
                    leave(ident, invocation, watchdog.kernel_timers)
                    return result
                invocation.firing.settle()
        except BaseException as late:
            if invocation.firing is None:
                raise
            # This is the one injected interrupt that was on its way. The handler's result stays.
            if invocation.is_open:
                # Or a debugger or profiler in Python was interrupted between two of these lines:
                # the handler's end is not known. Its own error is the context. Pinned by
                # test_an_interrupt_in_a_tracer_never_makes_a_success_of_an_error.
                invocation.is_open = False
                failure = late
            invocation.firing.settle()
            if not isinstance(late, LambdaTimeout | Interrupt):
                leave(ident, invocation, watchdog.kernel_timers)
                raise  # from a signal handler of the user
        result, failure = conclude(invocation.firing, result, failure)
        if failure is None:
            return result
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame

    return guarded


def _plain(handler: Callable[..., Any]) -> TwoArguments:
    """A Python function or method that calls `handler` with two arguments.

    Those are entered and left by the interpreter without a check point before the result is stored
    (3.11 on); everything else goes through :func:`call_opaque`.
    """
    if is_coroutine_function(handler):
        return as_function(handler)
    if isinstance(handler, types.FunctionType):
        return handler
    if isinstance(handler, types.MethodType) and isinstance(handler.__func__, types.FunctionType):
        return handler
    if not callable(handler):
        return handler  # type: ignore[unreachable]  # to fail as it does without us
    call = getattr(type(handler), "__call__", None)  # noqa: B004 - its type matters, not whether
    if isinstance(call, types.FunctionType):
        return types.MethodType(call, handler)

    def plain(event: Any, context: Any) -> Any:
        return call_opaque(handler, (event, context), {})

    return plain


def call_general(handler: Callable[..., Any], plan: Plan, args: Any, kwargs: Any) -> Any:
    """Call a watched handler with anything but two positional arguments (a method, keywords)."""
    context = kwargs.get("context")
    if context is None:
        given = [*reversed(args), *kwargs.values()]
        context = next((a for a in given if hasattr(a, "get_remaining_time_in_millis")), None)
    if is_coroutine_function(handler):
        handler = as_function(functools.partial(_call_with, handler, args, kwargs))
        return guard(handler, plan)(None, context)

    def plain(_event: Any, _context: Any) -> Any:
        return call_opaque(handler, args, kwargs)

    return guard(plain, plan)(None, context)


def _call_with(
    handler: Callable[..., Any], args: Any, kwargs: Any, _event: Any, _context: Any
) -> Any:
    return handler(*args, **kwargs)


def _call_within(
    outer: Invocation, plan: Plan, call: TwoArguments, event: Any, context: Any
) -> Any:
    """Call a watched handler that a watched one calls: one invocation, watched once.

    What is given in the inner one's code holds from here on, until it returns. It keeps holding
    when an interrupt goes through: then it is the inner one's fallback that the caller gets.
    """
    previous = outer.plan
    if not plan.is_bare and outer.firing is None:
        outer.plan = previous.with_inner(plan)
        outer.reschedule()
        process_watchdog.wake(outer)
    result = call(event, context)
    if outer.plan is not previous and outer.firing is None:
        outer.plan = previous
        outer.reschedule()
        process_watchdog.wake(outer)
    return result


def _explain(context: object, remaining_ms: object) -> None:
    """Say why an invocation is not watched; once for each reason, since it will come again."""
    try:
        tells = hasattr(context, "get_remaining_time_in_millis")
        told = f"{repr(remaining_ms)[:100]} ms"
    except Exception:  # noqa: BLE001 - the user's property, or __repr__
        tells, told = True, "not to be had"
    if tells:
        warn_once(
            ("remaining time", type(remaining_ms)),
            "not watched: the context's remaining time is %s; "
            "set WATCHDOG_LAMBDA_TIMEOUT to the function's timeout in seconds",
            told,
        )
    else:
        warn_once(
            "no context",
            "not watched: the context, %s, has no get_remaining_time_in_millis(); "
            "in tests use watchdog_lambda.testing.FakeContext",
            type(context).__name__,
        )
