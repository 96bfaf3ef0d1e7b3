"""The guard around a handler: arm, call, settle.

``guarded`` inside :func:`guard` is the hot path, which every invocation runs. What a normal
invocation does not need is in separate functions.

On the main thread no interrupt ever lands in these frames: the nudge's signal handler puts it off.
On other threads an injected interrupt can land at any check point until :meth:`Firing.settle` has
returned.
"""

from __future__ import annotations

import math
import types
from _thread import get_ident
from itertools import takewhile

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

# The errors raised if the context is not a Lambda context, or gives no time. Not all of Exception:
# an error that the user's own timer raises in here must get through.
_NO_TIME = (AttributeError, TypeError, ValueError, ArithmeticError, LookupError)


def guard(
    handler: Callable[..., Any], plan: Plan, watchdog: WatchdogThread = process_watchdog
) -> TwoArguments:
    """Return a function of event and context that calls `handler` under the watchdog."""
    metrics.preload(plan.settings.metrics_namespace)
    call = _plain(handler)
    # Closure variables: CPython looks up a module's names more slowly.
    invocations, thread_id, monotonic = active, get_ident, watchdog.clock.monotonic
    # The watchdog's first look is due at half of the time, to take the first sample; without
    # samples, at the start of the grace period.
    grace_period = plan.settings.grace_period
    is_sampled = plan.settings.samples > 0
    share = SAMPLES_SHARE if is_sampled else 1 - GRACE_SHARE
    longest_shared = math.inf if is_sampled else grace_period / GRACE_SHARE
    # The caller may give up before Lambda does, and the context may be wrong.
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
        # No call from here to where the invocation is opened: the user's signal handler could run
        # in between and itself call a watched handler. Pinned by
        # test_arming_has_no_signal_check_point.
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
                # Inside the try: the watchdog can act from the next line on.
                invocation.is_open = True
                if staged:
                    invocation.reschedule()
                    due = invocation.due
                if due < watchdog.wake_at:
                    watchdog.wake(invocation)
                result = call(event, context)
                # CPython has no check point between the handler's return, the store of its result
                # and this store, so nothing can land here and lose a returned result.
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
                # Settle inside `except`: leaving it is a backward jump, a check point at which
                # 3.11 and 3.12 use the wrong entry of the exception table. Pinned by
                # test_injection_landing_in_settle_keeps_the_result.
                invocation.firing.settle()
            else:
                # Read after closing: before, a look can begin to use this; see _engine.current.
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
            # An injected interrupt that was on its way has landed. The handler's result stays.
            if invocation.is_open:
                # Or a debugger or profiler in Python was interrupted between two of these lines, so
                # it is not known how the handler ended. Its own error, if any, is the context.
                # Pinned by test_interrupt_in_tracer_never_turns_error_into_success.
                invocation.is_open = False
                failure = late
            invocation.firing.settle()
            if not isinstance(late, LambdaTimeout | Interrupt):
                leave(ident, invocation, watchdog.kernel_timers)
                raise  # raised by the user's signal handler
        result, failure = conclude(invocation.firing, result, failure)
        if failure is None:
            return result
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame

    return guarded


def _plain(handler: Callable[..., Any]) -> TwoArguments:
    """Return a Python function or method that calls `handler` with two arguments.

    The interpreter (3.11 and newer) enters and leaves those without a check point before the result
    is stored. All other callables go through :func:`call_opaque`.
    """
    if is_coroutine_function(handler):
        return as_function(handler)
    if isinstance(handler, types.FunctionType):
        return handler
    if isinstance(handler, types.MethodType) and isinstance(handler.__func__, types.FunctionType):
        return handler
    if not callable(handler):
        return handler  # type: ignore[unreachable]  # fails as it would without us
    call = getattr(type(handler), "__call__", None)  # noqa: B004 - its type matters, not whether
    if isinstance(call, types.FunctionType):
        return types.MethodType(call, handler)

    def plain(event: Any, context: Any) -> Any:
        return call_opaque(handler, (event, context), {})

    return plain


def call_general(handler: Callable[..., Any], plan: Plan, args: Any, kwargs: Any) -> Any:
    """Call a watched handler with other arguments than two positional ones (methods, keywords)."""
    context = kwargs.get("context")
    if context is None:
        given = [*reversed(args), *kwargs.values()]
        context = next((a for a in given if hasattr(a, "get_remaining_time_in_millis")), None)
    # The event stands before the context, as in a method's (self, event, context).
    before = [None, *takewhile(lambda argument: argument is not context, args)]
    event = kwargs.get("event", before[-1])
    if is_coroutine_function(handler):

        def called(_event: Any, _context: Any) -> Any:
            return handler(*args, **kwargs)

        return guard(as_function(called), plan)(event, context)

    def plain(_event: Any, _context: Any) -> Any:
        return call_opaque(handler, args, kwargs)

    return guard(plain, plan)(event, context)


def _call_within(
    outer: Invocation, plan: Plan, call: TwoArguments, event: Any, context: Any
) -> Any:
    """Call a watched handler from inside another one. It is one invocation, watched once.

    The inner handler's options apply until it returns. They stay in force if an interrupt passes
    through it, so that the caller gets the inner handler's fallback.
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
    """Log why an invocation is not watched. Once per reason, because it will recur."""
    try:
        tells = hasattr(context, "get_remaining_time_in_millis")
        told = f"{repr(remaining_ms)[:100]} ms"
    except Exception:  # noqa: BLE001 - the user's property, or __repr__
        tells, told = True, "unreadable"
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
