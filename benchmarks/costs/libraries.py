"""Libraries that end a call in time, or warn before its end; each as it is meant to be used.

Nothing of them is imported before one is asked for: every contender has a process to itself.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from .handlers import MARGIN

if TYPE_CHECKING:
    from .handlers import Handler


def with_stopit(handler: Handler) -> Handler:
    """Watch with stopit, which injects an exception from a timer's thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, at every process's start
        import stopit

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        with stopit.ThreadingTimeout(remaining):
            return handler(event, context)

    return wrapper


def with_func_timeout(handler: Handler) -> Handler:
    """Watch with func_timeout, which calls the handler on a thread of its own."""
    from func_timeout import func_timeout

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        return func_timeout(remaining, handler, (event, context))

    return wrapper


def with_wrapt_timeout_decorator(handler: Handler) -> Handler:
    """Watch with wrapt_timeout_decorator and its default, SIGALRM."""
    from wrapt_timeout_decorator import timeout

    timed = timeout(900)(handler)

    def wrapper(event: Any, context: Any) -> Any:
        remaining = context.get_remaining_time_in_millis() / 1000 - MARGIN
        return timed(event, context, dec_timeout=remaining)

    return wrapper


def with_dramatiq(handler: Handler) -> Handler:
    """Watch as dramatiq's worker does: a limit noted before the message, taken back after it."""
    return _with_dramatiq(handler, fixed=False)


def with_dramatiq_fixed(handler: Handler) -> Handler:
    """The same, with the limit that the actor was declared with."""
    return _with_dramatiq(handler, fixed=True)


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


def with_sentry(handler: Handler) -> Handler:
    """Watch as Sentry's integration for Lambda does with ``timeout_warning=True``."""
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


def with_datadog(handler: Handler) -> Handler:
    """Watch as ddtrace does under Datadog's wrapper: SIGALRM, and what was there before it."""
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


def with_lumigo(handler: Handler) -> Handler:
    """Watch as Lumigo's tracer does: SIGALRM, whoever it belonged to."""
    from lumigo_tracer.lambda_tracer.spans_container import SpansContainer, TimeoutMechanism

    spans = SpansContainer()

    def wrapper(event: Any, context: Any) -> Any:
        spans.start_timeout_timer(context)
        try:
            return handler(event, context)
        finally:
            TimeoutMechanism.stop()

    return wrapper
