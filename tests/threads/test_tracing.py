"""A timeout in the user's trace: it is added to the span that is open at the handler's end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aws_xray_sdk import core as xray
from aws_xray_sdk import global_sdk_config
from aws_xray_sdk.core.context import Context as XrayContext
from aws_xray_sdk.core.emitters.udp_emitter import UDPEmitter
from aws_xray_sdk.core.lambda_launcher import LambdaContext
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support import BOUND, Context, block
from watchdog_lambda import LambdaTimeout, watch

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 0.8


@watch
def blocks(_event: object, _context: object) -> None:
    block()


def time_out() -> None:
    with pytest.raises(LambdaTimeout):
        blocks({}, Context(SECONDS))


# ---- OpenTelemetry -----------------------------------------------------------------------------


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> trace.Tracer:
    """Return a real tracer of the SDK, without changing the process's provider."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("tests")


def test_current_span_gets_an_event(spans: InMemorySpanExporter, tracer: trace.Tracer) -> None:
    """The current span gets an event with outcome, place and times, and keeps its status."""
    with tracer.start_as_current_span("handler"):
        time_out()

    [span] = spans.get_finished_spans()
    [event] = span.events
    attributes = dict(event.attributes or {})
    assert event.name == "watchdog.timeout"
    assert attributes.pop("watchdog.outcome") == "raised"
    assert "support.py" in str(attributes.pop("watchdog.location"))
    assert 0 < attributes.pop("watchdog.remaining_ms") < SECONDS * 1000  # type: ignore[operator]
    assert attributes.pop("watchdog.elapsed_ms") > 0  # type: ignore[operator]
    assert not attributes
    assert span.status.is_unset


def test_opentelemetry_works_without_xray(
    spans: InMemorySpanExporter, tracer: trace.Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenTelemetry works without X-Ray, which is not loaded by this."""
    monkeypatch.delitem(sys.modules, "aws_xray_sdk.core")

    with tracer.start_as_current_span("handler"):
        time_out()

    assert [event.name for event in spans.get_finished_spans()[0].events] == ["watchdog.timeout"]
    assert "aws_xray_sdk.core" not in sys.modules


def test_no_event_without_a_span(spans: InMemorySpanExporter) -> None:
    """Without an open span no event is recorded."""
    time_out()

    assert spans.get_finished_spans() == ()


def test_no_event_without_a_timeout(spans: InMemorySpanExporter, tracer: trace.Tracer) -> None:
    """An invocation without a timeout adds no event to the span."""
    with tracer.start_as_current_span("handler"):
        watch(lambda _e, _c: 1)({}, Context(30.0))

    assert spans.get_finished_spans()[0].events == ()


class Span(trace.NonRecordingSpan):
    """A span that fails, or hangs."""

    def __init__(self, failure: Any) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self._failure = failure

    def is_recording(self) -> bool:
        self._failure()
        return True


def fail() -> None:
    raise ValueError("broken")


@pytest.mark.parametrize("failure", [fail, lambda: threading.Event().wait(BOUND)])
def test_broken_tracer_costs_neither_answer_nor_record(
    capfd: pytest.CaptureFixture[str], failure: Any
) -> None:
    """A tracer that fails is ignored, and one that hangs is interrupted at last call.

    The caller gets its answer, and the log the record.
    """
    context = Context(SECONDS)
    with trace.use_span(Span(failure)), pytest.raises(LambdaTimeout):
        blocks({}, context)

    assert context.get_remaining_time_in_millis() > 0
    assert json.loads(capfd.readouterr().out)["outcome"] == "raised"


# ---- X-Ray -------------------------------------------------------------------------------------


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    """Yield the socket that X-Ray's segments are sent to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as received:
        received.bind(("127.0.0.1", 0))
        received.settimeout(BOUND)
        yield received


@pytest.fixture(params=[XrayContext, LambdaContext])
def recorder(
    request: pytest.FixtureRequest, daemon: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Return the process's recorder, with Lambda's context and with the other one."""
    monkeypatch.setenv(
        "_X_AMZN_TRACE_ID",
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
    )
    recorder: Any = xray.xray_recorder
    before = (recorder.context, recorder.sampling, global_sdk_config.sdk_enabled())
    global_sdk_config.set_sdk_enabled(True)
    recorder.emitter._socket.close()
    recorder.configure(
        context=request.param(),
        emitter=UDPEmitter(),
        sampling=False,
        daemon_address=f"127.0.0.1:{daemon.getsockname()[1]}",
        streaming_threshold=0,
    )
    yield recorder
    recorder.clear_trace_entities()
    recorder.configure(context=before[0], sampling=before[1])
    global_sdk_config.set_sdk_enabled(before[2])
    recorder.emitter._socket.close()


def received(daemon: socket.socket) -> dict[str, Any]:
    header, _, body = daemon.recv(65536).decode().partition("\n")
    assert json.loads(header)["format"] == "json"
    segment: dict[str, Any] = json.loads(body)
    return segment


def assert_annotated(segment: dict[str, Any]) -> None:
    annotations = dict(segment["annotations"])
    assert annotations.pop("watchdog_timeout") is True
    assert annotations.pop("watchdog_outcome") == "raised"
    assert "support.py" in annotations.pop("watchdog_location")
    assert annotations.pop("watchdog_elapsed_ms") > 0
    assert annotations.pop("watchdog_remaining_ms") > 0
    assert not annotations


def test_open_subsegment_is_annotated(recorder: Any, daemon: socket.socket) -> None:
    """An open subsegment, as that of a Tracer around the watched handler, is annotated."""
    in_lambda = isinstance(recorder.context, LambdaContext)
    if not in_lambda:
        recorder.begin_segment("function")
    with recorder.in_subsegment("## handler"):
        time_out()
    if in_lambda:
        subsegment = received(daemon)
        assert subsegment["name"] == "## handler"
    else:
        recorder.end_segment()
        [subsegment] = [
            s for s in (received(daemon), received(daemon)) if s["name"] == "## handler"
        ]
    assert_annotated(subsegment)


def test_lambda_segment_gets_a_subsegment(recorder: Any, daemon: socket.socket) -> None:
    """Without an open subsegment, Lambda's own segment gets one; any other is annotated.

    A Tracer's subsegment has been closed if its decorator is inside of the watchdog.
    """
    if not isinstance(recorder.context, LambdaContext):
        recorder.begin_segment("function")
        time_out()
        recorder.end_segment()
        assert_annotated(received(daemon))
        return
    time_out()
    subsegment = received(daemon)
    assert subsegment["name"] == "watchdog.timeout"
    assert subsegment["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"
    assert_annotated(subsegment)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_missing_segment_logs_no_error(
    recorder: Any,
    daemon: socket.socket,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_enabled: bool,
) -> None:
    """Without a segment nothing is sent, and the recorder logs no error."""
    assert isinstance(recorder.context, XrayContext)
    monkeypatch.delenv("_X_AMZN_TRACE_ID")  # Lambda sets it per invocation, its emulator never
    global_sdk_config.set_sdk_enabled(is_enabled)
    time_out()

    daemon.setblocking(False)
    with pytest.raises(BlockingIOError):
        daemon.recv(1)
    assert caplog.records == []


UNLOADED = """
import sys, threading, time
from watchdog_lambda import LambdaTimeout, watch
class Context:
    until = time.monotonic() + 0.2
    def get_remaining_time_in_millis(self): return (self.until - time.monotonic()) * 1000
try:
    watch(lambda e, c: threading.Event().wait(5))({}, Context())
except LambdaTimeout:
    tracers = ("aws_xray_sdk", "opentelemetry", "aws_lambda_powertools")
    loaded = [name for name in sys.modules if name.startswith(tracers)]
    assert not loaded, loaded
    print("timed out")
"""


def test_timeout_imports_no_tracer() -> None:
    """A timeout imports no tracer."""
    done = subprocess.run(
        [sys.executable, "-c", UNLOADED],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND * 3,
    )

    assert "timed out" in done.stdout, done.stderr
