"""A handler that uses Powertools' Logger, Tracer and Metrics, and not the watchdog."""

from __future__ import annotations

import os
import time
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer

logger = Logger(service="orders")
tracer = Tracer(service="orders")
metrics: Any = Metrics(namespace="Own", service="orders")


def handler(event: dict[str, Any], context: object) -> Any:
    """Set the trace that the event gives. Lambda gives the runtime one; its emulator does not."""
    os.environ.pop("_X_AMZN_TRACE_ID", None)
    if "trace" in event:
        os.environ["_X_AMZN_TRACE_ID"] = event["trace"]
    return observed(event, context)


@metrics.log_metrics  # type: ignore[untyped-decorator]
@tracer.capture_lambda_handler
@logger.inject_lambda_context(correlation_id_path="headers.trace")
def observed(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Wait as long as the event says."""
    del context
    logger.append_keys(order=event.get("order"))
    logger.info("begins")
    metrics.add_metric("Orders", "Count", 1)
    time.sleep(event.get("sleep", 0))
    return {"ok": True}
