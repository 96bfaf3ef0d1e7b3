"""A Powertools event handler with routes, in Logger and Metrics."""

from __future__ import annotations

import os
import time
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response

logger = Logger(service="orders")
metrics = Metrics(namespace="orders", service="orders")
app = APIGatewayRestResolver()
calls = 0


@app.get("/ok")
def ok() -> dict[str, int]:
    """Answer at once."""
    global calls  # noqa: PLW0603
    calls += 1
    return {"call": calls, "pid": os.getpid()}


@app.get("/sleep")
def sleep() -> None:
    """Run into the timeout."""
    metrics.add_metric(name="Begun", unit="Count", value=1)
    try:
        time.sleep(60)
    finally:
        print("handler: finally", flush=True)


@app.get("/answered")
def answered() -> None:
    """Run into the timeout, with an exception handler that answers."""
    time.sleep(60)


@app.exception_handler(TimeoutError)
def late(error: TimeoutError) -> Response[str]:
    """Answer for routes that took too long, except /sleep."""
    if app.current_event.path == "/sleep":
        raise error
    return Response(status_code=504, content_type="text/plain", body=str(error))


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Pass the event to its route."""
    return app.resolve(event, context)
