"""The metric's template, and the line that is made from it."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools.metrics import EphemeralMetrics, functions

from watchdog_lambda._report import metrics, stdout
from watchdog_lambda.errors import ConfigurationError

NOW_MS = 1_700_000_000_000


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what is written, with no template of other tests."""
    written: list[Any] = []
    monkeypatch.setattr(metrics, "_templates", {})
    monkeypatch.setattr(stdout, "write", lambda line: written.append(json.loads(line.decode())))
    monkeypatch.setattr(metrics, "SystemClock", SimpleNamespace(epoch_ms=lambda: NOW_MS))
    return written


def make_firing(namespace: str | None = "Orders", function: str | None = "orders") -> Any:
    settings = SimpleNamespace(metrics_namespace=namespace)
    return SimpleNamespace(
        invocation=SimpleNamespace(plan=SimpleNamespace(settings=settings)),
        details=None if function is None else SimpleNamespace(function_name=function),
        timeline=SimpleNamespace(limit=30.0),
    )


@pytest.mark.parametrize(
    ("function", "dimension"), [("orders", "orders"), ("", "unknown"), (None, "unknown")]
)
def test_line_is_what_powertools_writes(
    lines: list[Any], function: str | None, dimension: str
) -> None:
    """The line is what Powertools writes for the same metric; no dimension is empty."""
    metrics.preload("Orders")

    metrics.write(make_firing(function=function), "raised", 27.5004)

    expected: Any = EphemeralMetrics(namespace="Orders")
    expected.add_dimension("function_name", dimension)
    expected.add_dimension("outcome", "raised")
    expected.add_metric("Timeout", "Count", 1)
    expected.add_metric("RemainingTime", "Milliseconds", 2500)
    assert lines == [
        expected.serialize_metric_set()
        | {"_aws": expected.serialize_metric_set()["_aws"] | {"Timestamp": NOW_MS}}
    ]


def test_template_is_made_once_and_not_changed(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template is made once for each namespace, and no line changes it."""
    metrics.preload("Orders")
    template = metrics._templates["Orders"]
    before = json.dumps(template)
    with monkeypatch.context() as patch:
        patch.setattr(functions, "is_metrics_disabled", lambda: True)
        metrics.preload("Orders")

    metrics.write(make_firing(), "raised", 1.0)

    assert metrics._templates["Orders"] is template
    assert json.dumps(template) == before
    assert template["function_name"] == template["outcome"] == "unknown"
    assert len(lines) == 1


def test_users_service_is_no_dimension(lines: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's POWERTOOLS_SERVICE_NAME adds no dimension."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "payments")
    metrics.preload("Orders")

    metrics.write(make_firing(), "raised", 1.0)

    assert lines[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["function_name", "outcome"]]


@pytest.mark.parametrize("namespace", [None, "Others"])
def test_no_line_without_a_template(lines: list[Any], namespace: str | None) -> None:
    """Without a namespace, or for one that was not prepared, there is no line."""
    metrics.preload(None)
    metrics.preload("Orders")

    metrics.write(make_firing(namespace), "raised", 1.0)

    assert lines == []
    assert list(metrics._templates) == ["Orders"]


def test_powertools_switch_disables_the_metric(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Powertools' metrics are switched off there is no line."""
    monkeypatch.setattr(functions, "is_metrics_disabled", lambda: True)
    metrics.preload("Orders")

    metrics.write(make_firing(), "raised", 1.0)

    assert (lines, metrics._templates) == ([], {"Orders": None})


def test_first_3x_releases_have_no_switch(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(functions, "is_metrics_disabled")
    metrics.preload("Orders")

    metrics.write(make_firing(), "raised", 1.0)

    assert len(lines) == 1


class Missing:
    """Lets the import of a module fail as if that were not installed."""

    def __init__(self, asked_for: str, name: str) -> None:
        self._asked_for, self._name = asked_for, name

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == self._asked_for:
            raise ModuleNotFoundError(f"No module named {self._name!r}", name=self._name)


@pytest.mark.parametrize(
    ("missing", "error"),
    [
        ("aws_lambda_powertools", ConfigurationError),
        ("aws_lambda_powertools.metrics", ConfigurationError),
        ("jmespath", ModuleNotFoundError),
        (None, ModuleNotFoundError),
    ],
)
def test_missing_powertools_is_a_configuration_error(
    lines: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    missing: Any,
    error: type[Exception],
) -> None:
    """Only Powertools itself counts, and not what is missing of its own dependencies."""
    asked_for = "aws_lambda_powertools.metrics.functions"
    monkeypatch.delitem(sys.modules, asked_for)
    monkeypatch.delattr("aws_lambda_powertools.metrics.functions")
    monkeypatch.setattr(sys, "meta_path", [Missing(asked_for, missing), *sys.meta_path])

    with pytest.raises(error) as raised:
        metrics.preload("Orders")

    if error is ConfigurationError:
        assert str(raised.value).startswith(
            "METRICS_NAMESPACE='Orders' needs aws-lambda-powertools"
        )
        assert raised.value.__suppress_context__
    assert (lines, metrics._templates) == ([], {})
