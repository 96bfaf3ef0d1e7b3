"""What a timeout adds to the open trace, with stand-ins for the tracers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda._report.tracing import annotation

FACTS = {"outcome": "raised", "location": "app.py:1 (f)", "elapsed_ms": 27500, "remaining_ms": 2500}
ANNOTATIONS = {"watchdog_timeout": True} | {f"watchdog_{name}": FACTS[name] for name in FACTS}


class Recorder:
    """Stands in for X-Ray's recorder, and notes what is done in which order."""

    def __init__(self, context: str, *, is_sampled: bool = True, is_open: bool = True) -> None:
        self.context = type(context, (), {"_local": SimpleNamespace(entities=["segment"])})()
        self.annotations: dict[str, object] = {}
        self.steps: list[str] = []
        self._is_sampled = is_sampled
        self._is_open = is_open

    def get_trace_entity(self) -> Any:
        self.steps.append("entity")
        return SimpleNamespace(sampled=self._is_sampled)

    def current_subsegment(self) -> object:
        return "subsegment" if self._is_open else None

    def begin_subsegment(self, name: str) -> None:
        self.steps.append(f"begin {name}")

    def end_subsegment(self) -> None:
        self.steps.append("end")

    def put_annotation(self, name: str, value: object) -> None:
        if "put" not in self.steps:
            self.steps.append("put")
        self.annotations[name] = value


class Span:
    """Stands in for OpenTelemetry's current span."""

    def __init__(self, *, is_recorded: bool = True) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self._is_recorded = is_recorded

    def is_recording(self) -> bool:
        return self._is_recorded

    def add_event(self, name: str, facts: dict[str, object]) -> None:
        self.events.append((name, facts))


@pytest.fixture(autouse=True)
def tracers(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have no tracer loaded; return what loads one."""
    monkeypatch.setitem(sys.modules, "aws_xray_sdk.core", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    return monkeypatch


def load_xray(tracers: pytest.MonkeyPatch, recorder: object) -> None:
    tracers.setitem(sys.modules, "aws_xray_sdk.core", SimpleNamespace(xray_recorder=recorder))


def load_opentelemetry(tracers: pytest.MonkeyPatch, span: object) -> None:
    module = SimpleNamespace(get_current_span=lambda: span)
    tracers.setitem(sys.modules, "opentelemetry.trace", module)


def note(location: str | None = "app.py:1 (f)") -> None:
    details = None if location is None else SimpleNamespace(location=location)
    firing: Any = SimpleNamespace(
        elapsed=lambda: 27.5, details=details, timeline=SimpleNamespace(limit=30.0)
    )
    noted = annotation(firing, "raised")
    assert noted is not None
    noted()


def test_nothing_is_noted_without_a_tracer() -> None:
    assert annotation(SimpleNamespace(), "raised") is None  # type: ignore[arg-type]


def test_span_gets_an_event(tracers: pytest.MonkeyPatch) -> None:
    span = Span()
    load_opentelemetry(tracers, span)

    note()

    facts = {f"watchdog.{name}": value for name, value in FACTS.items()}
    assert span.events == [("watchdog.timeout", facts)]


def test_location_is_empty_without_details(tracers: pytest.MonkeyPatch) -> None:
    span = Span()
    load_opentelemetry(tracers, span)

    note(location=None)

    assert span.events[0][1]["watchdog.location"] == ""


def test_span_that_is_not_recorded_gets_no_event(tracers: pytest.MonkeyPatch) -> None:
    span = Span(is_recorded=False)
    load_opentelemetry(tracers, span)

    note()

    assert span.events == []


@pytest.mark.parametrize("context", ["Context", "LambdaContext"])
def test_open_subsegment_is_annotated(tracers: pytest.MonkeyPatch, context: str) -> None:
    recorder = Recorder(context)
    load_xray(tracers, recorder)

    note()

    assert recorder.annotations == ANNOTATIONS
    assert recorder.steps == ["entity", "put"]


def test_segment_outside_lambda_is_annotated_itself(tracers: pytest.MonkeyPatch) -> None:
    """Outside Lambda a segment is the user's own, so no subsegment is needed."""
    recorder = Recorder("Context", is_open=False)
    load_xray(tracers, recorder)

    note()

    assert recorder.steps == ["entity", "put"]


def test_lambda_segment_gets_a_subsegment_that_is_ended(tracers: pytest.MonkeyPatch) -> None:
    recorder = Recorder("LambdaContext", is_open=False)
    load_xray(tracers, recorder)

    note()

    assert recorder.annotations == ANNOTATIONS
    assert recorder.steps == ["entity", "begin watchdog.timeout", "put", "end"]


def test_subsegment_is_ended_although_an_annotation_fails(tracers: pytest.MonkeyPatch) -> None:
    class Failing(Recorder):
        def put_annotation(self, name: str, value: object) -> None:
            raise ValueError(name, value)

    recorder = Failing("LambdaContext", is_open=False)
    load_xray(tracers, recorder)

    note()

    assert recorder.steps == ["entity", "begin watchdog.timeout", "end"]


@pytest.mark.parametrize("entities", [[], None])
def test_recorder_without_a_segment_is_not_asked(
    tracers: pytest.MonkeyPatch, entities: list[str] | None
) -> None:
    """Outside Lambda the recorder would log an error; in Lambda there is always a segment."""
    outside, in_lambda = Recorder("Context"), Recorder("LambdaContext")
    for recorder in outside, in_lambda:
        local = SimpleNamespace() if entities is None else SimpleNamespace(entities=entities)
        recorder.context._local = local
        load_xray(tracers, recorder)
        note()

    assert outside.steps == []
    assert in_lambda.annotations == ANNOTATIONS


def test_entity_that_is_not_sampled_is_left_alone(tracers: pytest.MonkeyPatch) -> None:
    recorder = Recorder("LambdaContext", is_sampled=False, is_open=False)
    load_xray(tracers, recorder)

    note()

    assert recorder.steps == ["entity"]


def test_broken_tracer_does_not_stop_the_other(tracers: pytest.MonkeyPatch) -> None:
    span = Span()
    load_xray(tracers, None)
    load_opentelemetry(tracers, span)

    note()

    assert len(span.events) == 1


def test_both_tracers_are_told(tracers: pytest.MonkeyPatch) -> None:
    recorder, span = Recorder("LambdaContext"), Span()
    load_xray(tracers, recorder)
    load_opentelemetry(tracers, span)

    note()

    assert recorder.annotations == ANNOTATIONS
    assert len(span.events) == 1
