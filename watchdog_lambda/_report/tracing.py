"""Notes a timeout in the open trace: an annotation in X-Ray, an event in OpenTelemetry.

It uses a tracer only if the user's code has loaded it; nothing is imported here.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from watchdog_lambda._engine.invocation import Firing

EVENT = "watchdog.timeout"


def annotation(firing: Firing, outcome: str) -> Callable[[], None] | None:
    """Return a function that notes the timeout in the user's traces; None if no tracer is loaded.

    The function does not raise, but may take long, because it runs the user's code. The status of a
    span or segment is left to its owner: an error that leaves the handler sets it anyway, and an
    answer is no error.

    Thread: the handler's, after :meth:`Firing.settle`.
    """
    xray = sys.modules.get("aws_xray_sdk.core")
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if xray is None and opentelemetry is None:
        return None
    now = firing.elapsed()
    facts = {
        "outcome": outcome,
        "location": firing.details.location if firing.details else "",
        "elapsed_ms": round(now * 1000),
        "remaining_ms": round((firing.timeline.limit - now) * 1000),
    }

    def annotate_all() -> None:
        for tracer, note in ((xray, _annotate_segment), (opentelemetry, _add_event)):
            try:
                if tracer is not None:
                    note(tracer, facts)
            except Exception:  # noqa: BLE001, S110 - the record has everything
                pass

    return annotate_all


def _annotate_segment(xray: Any, facts: dict[str, Any]) -> None:
    """Annotate the open subsegment, or a new one of our own if there is none.

    Lambda's own segment cannot be changed. Only that one is open if the Tracer's decorator is
    inside the watchdog.
    """
    recorder = xray.xray_recorder
    # Outside Lambda the recorder logs an error if it is asked for an entity that does not exist.
    in_lambda = type(recorder.context).__name__ == "LambdaContext"
    if not in_lambda and not getattr(recorder.context._local, "entities", None):
        return
    entity = recorder.get_trace_entity()
    if not entity.sampled:
        return  # without a trace from Lambda, for example, the recorder would log an error
    is_open = not in_lambda or recorder.current_subsegment() is not None
    if not is_open:
        recorder.begin_subsegment(EVENT)
    try:
        recorder.put_annotation("watchdog_timeout", True)
        for name, value in facts.items():
            recorder.put_annotation(f"watchdog_{name}", value)
    finally:
        if not is_open:
            recorder.end_subsegment()


def _add_event(opentelemetry: Any, facts: dict[str, Any]) -> None:
    """Add an event to the current span, if it is recorded."""
    span = opentelemetry.get_current_span()
    if span.is_recording():
        span.add_event(EVENT, {f"watchdog.{name}": value for name, value in facts.items()})
