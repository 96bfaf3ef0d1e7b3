"""The metric of a timeout: one line in Powertools' format, in any state of the process."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import EphemeralMetrics, functions

from tests.support import BOUND, Context, block
from watchdog_lambda import LambdaTimeout, Watchdog, watch
from watchdog_lambda._report import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS = 0.4


@pytest.fixture(autouse=True)
def no_template() -> Iterator[None]:
    """Clear the templates that other tests have made."""
    before = dict(metrics._templates)
    metrics._templates.clear()
    yield
    metrics._templates.clear()
    metrics._templates.update(before)


class Lines:
    """What a timeout has written: the record, then the metric."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        self.metrics: list[dict[str, Any]] = [line for line in lines if "_aws" in line]
        self.reports: list[dict[str, Any]] = [line for line in lines if "_aws" not in line]
        self.kinds = ["metric" if "_aws" in line else "record" for line in lines]


def test_metric_line_equals_powertools(capfd: pytest.CaptureFixture[str]) -> None:
    """The line equals what Powertools itself writes for the same metric."""
    before = time.time()

    with pytest.raises(LambdaTimeout):
        watch(metrics_namespace="Orders")(lambda _e, _c: block())({}, Context(SECONDS))

    lines = Lines(capfd)
    [line], [report] = lines.metrics, lines.reports
    assert lines.kinds == ["record", "metric"]
    expected: Any = EphemeralMetrics(namespace="Orders")
    expected.add_dimension("function_name", "orders")
    expected.add_dimension("outcome", "raised")
    expected.add_metric("Timeout", "Count", 1)
    expected.add_metric("RemainingTime", "Milliseconds", report["remaining_ms"])
    serialized = expected.serialize_metric_set()
    stamp = line["_aws"].pop("Timestamp")
    serialized["_aws"].pop("Timestamp")
    assert line == serialized
    assert before * 1000 - 1 <= stamp <= time.time() * 1000


def test_each_outcome_is_a_dimension(capfd: pytest.CaptureFixture[str]) -> None:
    """Each outcome is a dimension of its own, and without a timeout there is no line."""

    def catching(_event: object, _context: object) -> str:
        try:
            block()
        except TimeoutError:
            pass
        return "caught"

    watch(metrics_namespace="Orders")(catching)({}, Context(SECONDS))
    watch(metrics_namespace="Orders", fallback=1)(lambda _e, _c: block())({}, Context(SECONDS))
    watch(metrics_namespace="Orders")(lambda _e, _c: 1)({}, Context(SECONDS))

    assert [line["outcome"] for line in Lines(capfd).metrics] == ["returned", "fallback"]


class NoImports(MetaPathFinder):
    """Notes each import of a module that is not loaded."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> None:
        del path, target
        self.names.append(fullname)


def test_stuck_handler_metric_needs_no_lock_or_import(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog's thread writes the metric without logging's lock and without imports."""
    finder = NoImports()
    powertools_logger = logging.getLogger("aws_lambda_powertools")
    lock = threading.Lock()
    seconds = SECONDS * 4  # last call has a sixteenth; less is too short on a busy machine

    @watch(metrics_namespace="Orders", interrupt="none")
    def handler(_event: object, _context: object) -> None:
        monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
        # The handler is stuck in the middle of a logging call.
        with logging._lock:  # type: ignore[attr-defined]
            lock.acquire()
            lock.acquire(timeout=seconds + 0.1)
        monkeypatch.undo()

    powertools_logger.setLevel(logging.DEBUG)
    try:
        handler({}, Context(seconds))
    finally:
        powertools_logger.setLevel(logging.NOTSET)

    lines = Lines(capfd)
    [line] = lines.metrics
    assert (line["outcome"], line["Timeout"]) == ("stuck", [1.0])
    assert 0 < line["RemainingTime"][0] < seconds * 1000 / 16
    assert lines.reports[0]["outcome"] == "stuck"
    assert finder.names == []


def test_user_metrics_are_not_changed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's metrics, dimensions and service are neither changed nor written with ours."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "checkout")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Checkout")
    metrics: Any = Metrics()
    metrics.add_metric("Sold", "Count", 3)
    metrics.add_dimension("environment", "prod")

    with pytest.raises(LambdaTimeout):
        watch(metrics_namespace="Orders")(lambda _e, _c: block())({}, Context(SECONDS))

    [line] = Lines(capfd).metrics
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Orders"
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["function_name", "outcome"]]
    assert set(line) == {"_aws", "function_name", "outcome", "Timeout", "RemainingTime"}
    serialized = metrics.serialize_metric_set()
    metrics.provider.clear_metrics()
    assert serialized["Sold"] == [3.0]
    assert "Timeout" not in serialized
    assert serialized["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["environment", "service"]]


@pytest.mark.skipif(
    not hasattr(functions, "is_metrics_disabled"),
    reason="this version of Powertools lacks the switch",
)
@pytest.mark.parametrize("variable", ["POWERTOOLS_METRICS_DISABLED", "POWERTOOLS_DEV"])
def test_powertools_switches_disable_the_metric(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The switches that turn Powertools' metrics off apply to this metric as well."""
    monkeypatch.setenv(variable, "true")

    with pytest.raises(LambdaTimeout):
        watch(metrics_namespace="Orders")(lambda _e, _c: block())({}, Context(SECONDS))

    assert Lines(capfd).kinds == ["record"]


def test_namespace_from_environment_and_unknown_function_name(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment variable alone sets the namespace; a missing function name is "unknown".

    CloudWatch refuses an empty dimension.
    """
    monkeypatch.setenv("WATCHDOG_LAMBDA_METRICS_NAMESPACE", "From/Env")
    context = Context(SECONDS)
    context.function_name = ""

    with pytest.raises(LambdaTimeout):
        Watchdog().watch(lambda _e, _c: block())({}, context)

    [line] = Lines(capfd).metrics
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "From/Env"
    assert line["function_name"] == "unknown"


def test_inner_handler_namespace_is_used(capfd: pytest.CaptureFixture[str]) -> None:
    """In a handler that is watched twice, the inner namespace is used, and once."""
    inner = watch(metrics_namespace="Inner")(lambda _e, _c: block())

    with pytest.raises(LambdaTimeout):
        watch(metrics_namespace="Outer")(lambda e, c: inner(e, c))({}, Context(SECONDS))

    [line] = Lines(capfd).metrics
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Inner"


UNSET = """
import sys
from watchdog_lambda import watch
watch(lambda e, c: None)
assert not [name for name in sys.modules if name.startswith("aws_lambda_powertools")]
watch(metrics_namespace="Orders")(lambda e, c: None)
assert "aws_lambda_powertools.metrics" in sys.modules
"""


def test_powertools_is_not_imported_without_a_namespace() -> None:
    """Powertools is imported at the start only if a namespace is set."""
    done = subprocess.run(
        [sys.executable, "-c", UNSET],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND * 3,
    )

    assert done.returncode == 0, done.stderr
