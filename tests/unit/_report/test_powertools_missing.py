"""Tests without Powertools, as in a layer or a zip file that has this package alone."""

from __future__ import annotations

import importlib
import sys

import pytest

from watchdog_lambda import ConfigurationError, watch
from watchdog_lambda._report import metrics


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("aws_lambda_powertools", "watchdog_lambda.batch")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])


class Missing:
    """Finds no module of Powertools."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name.partition(".")[0] == "aws_lambda_powertools":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.usefixtures("missing")
def test_batch_import_error_names_the_powertools_layer() -> None:
    """The error of the batch processors names Powertools' layer.

    The runtime shows it after 'Unable to import module'.
    """
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("watchdog_lambda.batch")

    assert str(caught.value) == (
        "watchdog_lambda.batch needs aws-lambda-powertools, which is not installed; add "
        "Powertools' layer (AWSLambdaPowertoolsPythonV3), or pip install aws-lambda-powertools"
    )
    assert (caught.value.name or "").startswith("aws_lambda_powertools")


@pytest.mark.usefixtures("missing")
def test_metric_error_names_the_layer_and_the_setting() -> None:
    """A metric without Powertools is a ConfigurationError at the start.

    The error names the layer and the setting.
    """
    with pytest.raises(ConfigurationError) as caught:
        watch(metrics_namespace="Missing")(lambda _event, _context: None)

    assert str(caught.value) == (
        "METRICS_NAMESPACE='Missing' needs aws-lambda-powertools, which is not installed; add "
        "Powertools' layer (AWSLambdaPowertoolsPythonV3), or pip install aws-lambda-powertools, or "
        "leave the setting out"
    )
    assert "Missing" not in metrics._templates


def test_missing_dependency_of_powertools_raises_its_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If Powertools itself lacks a module, its own error is raised.

    Naming the layer would mislead.
    """
    for name in list(sys.modules):
        if name.startswith(("aws_lambda_powertools", "watchdog_lambda.batch")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jmespath", None)

    with pytest.raises(ModuleNotFoundError, match="jmespath"):
        importlib.import_module("watchdog_lambda.batch")
    with pytest.raises(ModuleNotFoundError, match="jmespath"):
        metrics.preload("Lacking")
