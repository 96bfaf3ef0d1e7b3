"""Ships orders with OpenTelemetry and Powertools' metrics; a timeout loses neither."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from watchdog_lambda import shutdown_hook

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from watchdog_lambda import TimeoutDetails


def line(span: ReadableSpan) -> str:
    told = {"span": span.name, "status": span.status.status_code.name}
    return json.dumps(told | dict(span.attributes or {})) + "\n"


# Spans wait in a buffer. The exporter stands in for the OTLP one, which posts them.
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=line)))
tracer = provider.get_tracer("orders")

metrics = Metrics(namespace="Orders", service="shipping")


@shutdown_hook
def flush_spans(details: TimeoutDetails | None = None) -> None:
    """Runs on any thread: while the handler works, and from the handler at its end."""
    provider.force_flush(timeout_millis=500)


@shutdown_hook(before=0.4)
def flush_metrics(details: TimeoutDetails) -> None:
    """Runs late, if the handler has not ended by then: metrics added during it would be lost."""
    metrics.flush_metrics()


def ship(order: dict[str, Any]) -> None:
    with tracer.start_as_current_span("ship", attributes={"order": order["id"]}):
        if order.get("in_c"):
            # Computes, and never checks for signals.
            hashlib.pbkdf2_hmac("sha256", b"order", b"salt", int(order["seconds"] * 1_000_000))
        else:
            time.sleep(order["seconds"])


@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Ship the orders of the event. The event also says how long each takes."""
    shipped: list[str] = []
    try:
        with tracer.start_as_current_span("handler"):
            for order in event.get("orders", ()):
                ship(order)
                shipped.append(order["id"])
                metrics.add_metric(name="Shipped", unit=MetricUnit.Count, value=1)
    except TimeoutError:
        return {"statusCode": 504, "shipped": shipped}
    finally:
        # All spans have ended here, including the handler's own.
        flush_spans()
    return {"statusCode": 200, "shipped": shipped}
