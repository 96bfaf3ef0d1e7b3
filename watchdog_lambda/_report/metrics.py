"""Writes a CloudWatch metric for each timeout, as a line in Embedded Metric Format (EMF).

Powertools makes the line only once, at the start: a template, of which each timeout fills in a
copy. So a stuck handler gets its metric, too. The watchdog thread writes that one, and must neither
import anything nor take a lock that user code can hold, as Powertools' logging does. Powertools
writes with ``print``; we write like the record.

The Powertools instance is our own: the user's metrics, dimensions and service are not affected.
"""

from __future__ import annotations

import json

from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda.errors import NO_POWERTOOLS, ConfigurationError

from . import stdout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from watchdog_lambda._engine.invocation import Firing

_UNKNOWN = "unknown"  # CloudWatch does not accept empty dimensions

_templates: dict[str, Any] = {}
"""By namespace; None if Powertools' metrics are switched off. Written only at the start."""


def preload(namespace: str | None) -> None:
    """Let Powertools make the template for this namespace, if there is one. Thread: any.

    Raises:
        ConfigurationError: Powertools is not installed.
    """
    if namespace is None or namespace in _templates:
        return
    try:
        from aws_lambda_powertools.metrics import functions  # noqa: PLC0415 - only if set
        from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import (  # noqa: PLC0415
            AmazonCloudWatchEMFProvider,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "aws_lambda_powertools":
            raise  # a dependency of Powertools is missing
        raise ConfigurationError(
            f"METRICS_NAMESPACE={namespace!r} {NO_POWERTOOLS}, or leave the setting out"
        ) from None

    # The first 3.x releases have no such function.
    is_disabled = getattr(functions, "is_metrics_disabled", bool)
    if is_disabled():
        _templates[namespace] = None
        return
    metrics: Any = AmazonCloudWatchEMFProvider(namespace=namespace)
    metrics.service = None  # POWERTOOLS_SERVICE_NAME would add a dimension
    metrics.add_dimension("function_name", _UNKNOWN)
    metrics.add_dimension("outcome", _UNKNOWN)
    metrics.add_metric("Timeout", "Count", 1)
    metrics.add_metric("RemainingTime", "Milliseconds", 0)
    _templates[namespace] = metrics.serialize_metric_set()


def write(firing: Firing, outcome: str, now: float) -> None:
    """Write the metric of one timeout, if a namespace is set. Never raises.

    Thread: the one that writes the record.
    """
    template = _templates.get(firing.invocation.plan.settings.metrics_namespace or "")
    if template is None:
        return
    details = firing.details
    line = json.dumps(
        template
        | {
            "_aws": template["_aws"] | {"Timestamp": SystemClock.epoch_ms()},
            "function_name": (details and details.function_name) or _UNKNOWN,
            "outcome": outcome,
            "RemainingTime": [float(round((firing.timeline.limit - now) * 1000))],
        }
    )
    stdout.write(stdout.as_line(line))
