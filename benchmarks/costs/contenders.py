"""The ways to end a handler in time that are compared, around the same handler.

Each library is used as it is meant to be. Nothing of it is imported before it is asked for: every
contender has a process to itself.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from types import FrameType
from typing import Any, Final, NoReturn

from watchdog_lambda import watch
from watchdog_lambda._config import Settings
from watchdog_lambda._watched import wrap

from .registry import CONTENDERS, FIXED, RECIPE, Handler, contender

__all__ = ["CONTENDERS"]

MARGIN: Final = 3.0
"""Seconds before the hard deadline at which each would act; our grace period's default."""

# ---- ours, and what there is without a library ---------------------------------------------------


contender("bare", "the handler, called directly")(lambda handler: handler)


@contender(
    "context read", "`context.get_remaining_time_in_millis()` and nothing else; it watches nothing"
)
def _(handler: Handler) -> Handler:
    def wrapper(event: Any, context: Any) -> Any:
        context.get_remaining_time_in_millis()
        return handler(event, context)

    return wrapper


contender("entrypoint", "`python -m watchdog_lambda`")(
    lambda handler: wrap(handler, Settings.from_environ(os.environ))
)
contender("@watch", "the decorator")(watch)


@contender(RECIPE, "`signal.signal` and `setitimer` before the handler, both restored after it")
def _(handler: Handler) -> Handler:
    def expired(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        previous = signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, remaining)
        try:
            return handler(event, context)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)

    return wrapper


@contender("threading.Timer", "one for each call, cancelled and joined")
def _(handler: Handler) -> Handler:
    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        timer = threading.Timer(remaining, bool)
        timer.start()
        try:
            return handler(event, context)
        finally:
            timer.cancel()
            timer.join()

    return wrapper


# ---- libraries -----------------------------------------------------------------------------------


@contender("stopit", "`with ThreadingTimeout(remaining):`")
def _(handler: Handler) -> Handler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, at every process's start
        import stopit

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        with stopit.ThreadingTimeout(remaining):
            return handler(event, context)

    return wrapper


@contender("func_timeout", "`func_timeout(remaining, handler, (event, context))`")
def _(handler: Handler) -> Handler:
    from func_timeout import func_timeout

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        return func_timeout(remaining, handler, (event, context))

    return wrapper


@contender(
    "wrapt_timeout_decorator",
    "`@timeout(...)`, with `dec_timeout=remaining` for each call; signals, its default",
)
def _(handler: Handler) -> Handler:
    from wrapt_timeout_decorator import timeout

    timed = timeout(900)(handler)

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        return timed(event, context, dec_timeout=remaining)

    return wrapper


def _with_dramatiq(handler: Handler, *, fixed: bool) -> Handler:
    import dramatiq
    from dramatiq.brokers.stub import StubBroker
    from dramatiq.middleware import TimeLimit

    limit: Any = TimeLimit()
    broker = StubBroker(middleware=[limit])
    actor: Any = dramatiq.actor(broker=broker, time_limit=(900 - MARGIN) * 1000)(handler)
    message = actor.message()
    limit.after_process_boot(broker)

    def wrapper(event: Any, context: Any) -> Any:
        if not fixed:
            remaining = context.get_remaining_time_in_millis() - MARGIN * 1000
            message.options["time_limit"] = remaining
        limit.before_process_message(broker, message)
        try:
            return handler(event, context)
        finally:
            limit.after_process_message(broker, message)

    return wrapper


contender(
    "dramatiq",
    "what its `TimeLimit` middleware does around a message, whose `time_limit` is what the context "
    "says",
)(lambda handler: _with_dramatiq(handler, fixed=False))
contender(FIXED, "the same with a limit that does not depend on the invocation's deadline")(
    lambda handler: _with_dramatiq(handler, fixed=True)
)


@contender(
    "Sentry timeout_warning",
    "the `TimeoutThread` that its integration starts and stops around the handler; not its tracing",
    is_vendors=True,
)
def _(handler: Handler) -> Handler:
    import sentry_sdk
    from sentry_sdk.integrations.aws_lambda import MILLIS_TO_SECONDS, TIMEOUT_WARNING_BUFFER
    from sentry_sdk.utils import TimeoutThread

    sentry_sdk.init()  # with no address to send to, and all the integrations that it has by default

    def wrapper(event: Any, context: Any) -> Any:
        configured = context.get_remaining_time_in_millis()
        thread = TimeoutThread(
            (configured - TIMEOUT_WARNING_BUFFER) / MILLIS_TO_SECONDS,
            configured / MILLIS_TO_SECONDS,
            isolation_scope=sentry_sdk.get_isolation_scope(),
            current_scope=sentry_sdk.get_current_scope(),
        )
        thread.start()
        try:
            return handler(event, context)
        finally:
            thread.stop()

    return wrapper


@contender(
    "Datadog (ddtrace)",
    "`DatadogInstrumentation`, as `patch()` wraps a handler in it; not its tracing",
    is_vendors=True,
)
def _(handler: Handler) -> Handler:
    # Nothing but the timer: no agent is looked for, and nothing is sent.
    os.environ.update(
        DD_TRACE_ENABLED="false",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
    )
    from ddtrace.contrib.internal.aws_lambda.patch import DatadogInstrumentation
    from ddtrace.internal.wrapping import wrap

    def wrapped(event: Any, context: Any) -> Any:
        return handler(event, context)

    wrap(wrapped, DatadogInstrumentation())  # in place: it changes the function's code
    return wrapped


@contender(
    "Lumigo",
    "`start_timeout_timer` and `TimeoutMechanism.stop`, as its tracer calls them; not its tracing",
    is_vendors=True,
)
def _(handler: Handler) -> Handler:
    from lumigo_tracer.lambda_tracer.spans_container import SpansContainer, TimeoutMechanism

    spans = SpansContainer()

    def wrapper(event: Any, context: Any) -> Any:
        spans.start_timeout_timer(context)
        try:
            return handler(event, context)
        finally:
            TimeoutMechanism.stop()

    return wrapper
