"""Describes each vendor's wrapper: how it is added, and what shows that it has flushed."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from .harness import ENTRYPOINT, function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.runtime.emulator import Emulator

Order = Literal["watchdog around it", "watchdog inside of it", "alone"]


@dataclass(frozen=True)
class Vendor:
    """A vendor's wrapper, which calls the handler that a variable of the vendor's names."""

    name: str
    handler: str
    variable: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """``{port}`` and ``{certificate}`` are those of the test's own intake."""
    uses_tls: bool = False
    flushed_by_lines: Callable[[list[str]], str] | None = None
    """What the lines of one invocation say to the vendor; None: it posts to its intake."""
    has_threads: bool = False
    """Whether it starts threads before it imports the handler that it wraps."""
    flushes_interrupts: bool = True
    """Whether it also flushes when a BaseException goes through it, if it is on the inside."""

    def function(self, order: Order, port: int, certificate: Path) -> Emulator:
        """Make a function with app.handler in the wrapper."""
        environment = {
            name: value.format(port=port, certificate=certificate)
            for name, value in self.environment.items()
        }
        wrapped = "app.handler"
        if order == "alone":
            return function(self.handler, {self.variable: wrapped, **environment}, warm_up={})
        if order == "watchdog around it":
            environment |= {"WATCHDOG_LAMBDA_HANDLER": self.handler, self.variable: wrapped}
            return function(ENTRYPOINT, environment, warm_up={})
        environment |= {self.variable: ENTRYPOINT, "WATCHDOG_LAMBDA_HANDLER": wrapped}
        return function(self.handler, environment, warm_up={})


def _datadog(lines: list[str]) -> str:
    return "".join(line for line in lines if line.startswith('{"traces"'))


def _new_relic(lines: list[str]) -> str:
    payloads = [line for line in lines if "NR_LAMBDA_MONITORING" in line]
    return "".join(
        gzip.decompress(base64.b64decode(json.loads(payload)[2])).decode() for payload in payloads
    )


VENDORS: Final = (
    Vendor(
        "Datadog",
        "datadog_lambda.handler.handler",
        "DD_LAMBDA_HANDLER",
        {"DD_FLUSH_TO_LOG": "true", "DD_TRACE_ENABLED": "true"},
        flushed_by_lines=_datadog,
    ),
    Vendor(
        "Lumigo",
        "lumigo_tracer.auto_instrument_handler._handler",
        "LUMIGO_ORIGINAL_HANDLER",
        {
            "LUMIGO_TRACER_TOKEN": "t_123456789012345678901",
            "LUMIGO_TRACER_HOST": "127.0.0.1:{port}",
            "LUMIGO_EDGE_TIMEOUT": "2",
            "SSL_CERT_FILE": "{certificate}",
        },
        uses_tls=True,
    ),
    Vendor(
        "New Relic",
        "newrelic_wrapper.handler",
        "NEW_RELIC_LAMBDA_HANDLER",
        {
            "NEW_RELIC_SERVERLESS_MODE_ENABLED": "true",
            "NEW_RELIC_ACCOUNT_ID": "1",
            "NEW_RELIC_LICENSE_KEY": "x" * 40,
            "NEW_RELIC_LOG": "stderr",
        },
        flushed_by_lines=_new_relic,
    ),
    Vendor(
        "OpenTelemetry",
        "otel_wrapper.lambda_handler",
        "ORIG_HANDLER",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:{port}"},
        has_threads=True,
        flushes_interrupts=False,
    ),
)
