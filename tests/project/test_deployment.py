"""The deployment's metric filters match the package's lines; `dev.py template` checks the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tools import deployment
from watchdog_lambda._config import SETTINGS
from watchdog_lambda._report.record import EVENT
from watchdog_lambda._setting import PREFIX

ROOT = Path(__file__).parents[2]
KITS = ("deploy/template.yaml", "deploy/cdk/app.py", "deploy/terraform/main.tf")
PAGES = (*KITS, "docs/how-to/deploy.md", "docs/how-to/other-wrappers.md")


@pytest.mark.parametrize("page", PAGES[:4])
def test_metric_filters_name_the_record_events(page: str) -> None:
    """The filters name the records' events, in each deployment and on the page."""
    text = (ROOT / page).read_text(encoding="utf-8")

    events = set(re.findall(r"\$\.event = \\?\"([\w.]+)\\?\"", text))

    assert events == {EVENT, "watchdog.crash"}


@pytest.mark.parametrize("page", PAGES)
def test_deployment_variables_are_known_settings(page: str) -> None:
    """Each variable in a deployment is a setting.

    An unknown one would be warned of, and have no effect.
    """
    text = (ROOT / page).read_text(encoding="utf-8")

    names = set(re.findall(rf"\b{PREFIX}([A-Z_]+)", text))

    assert names
    assert {name.lower() for name in names} <= set(SETTINGS)


def test_template_builds_the_project_image() -> None:
    """The template builds this project's image, from paths that exist as SAM resolves them."""
    text = (ROOT / KITS[0]).read_text(encoding="utf-8")
    settings = dict(re.findall(r"^ +(DockerContext|Dockerfile|APP): (.+)$", text, re.MULTILINE))

    context = (ROOT / "deploy" / settings["DockerContext"]).resolve()
    assert context == ROOT
    assert (context / settings["Dockerfile"]).is_file()
    assert (context / settings["APP"] / "app.py").is_file()


def kit(**parts: Any) -> deployment.Kit:
    return {"filters": {"Kills": ("pattern", "1")}, "alarms": {"Kills": 1}, **parts}


def test_equal_deployments_have_no_differences() -> None:
    """Deployments that agree pass; errors that both have are left to cfn-lint."""
    assert deployment.differences({"SAM": kit(), "CDK": kit()}) == []


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (kit(filters={}), "CDK: filters {}, but SAM has {'Kills': ('pattern', '1')}"),
        (kit(alarms={"Kills": 0}), "CDK: the alarm Kills has no action"),
    ],
)
def test_different_deployments_are_reported(other: deployment.Kit, message: str) -> None:
    """A metric that one deployment lacks, or an alarm without an action, is found."""
    assert message in deployment.differences({"SAM": kit(), "CDK": other})


def test_undeclared_terraform_references_are_reported() -> None:
    """Terraform's resources, data, variables and locals must be declared.

    A variable must be used as well.
    """
    source = {
        "variable": [{"name": {}, "forgotten": {}}],
        "locals": [{"queries": {}}],
        "resource": [{"aws_sns_topic": {"alarms": {}}}],
        "data": [{"aws_region": {"current": {}}}],
    }
    text = """
    # aws_sns_topic.remark
    a = [var.name, local.queries, aws_sns_topic.alarms.arn, data.aws_region.current.id]
    b = [var.nam, local.filters, aws_sns_topic.alarm.arn, data.aws_region.here.id]
    """

    assert deployment.undeclared(source, text) == {
        *("var.nam", "local.filters", "aws_sns_topic.alarm", "data.aws_region.here"),
        "var.forgotten, which nothing uses",
    }


def filters() -> dict[str, str]:
    """Return the template's metric filters by name."""
    text = (ROOT / KITS[0]).read_text(encoding="utf-8")
    found = re.findall(
        r"^  (\w+):\n    Type: AWS::Logs::MetricFilter\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL
    )
    return {name: re.findall(r"FilterPattern: '(.*)'", part)[0] for name, part in found}


def matches(pattern: str, event: dict[str, Any]) -> bool:
    """Return whether CloudWatch's filter matches.

    It has equality, ``&&``, ``||`` and brackets only.
    """

    def value(path: str) -> Any:
        found: Any = event
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    code = re.sub(r"\$\.([\w.]+) = ", r"value('\1') == ", pattern.strip("{ }"))
    return bool(eval(code.replace("&&", "and").replace("||", "or"), {"value": value}))  # noqa: S307


def report(status: str, **more: str) -> dict[str, Any]:
    """Return Lambda's last line of an invocation, in the documented JSON format."""
    record = {"requestId": "7", "status": status, "metrics": {"durationMs": 3000.0}, **more}
    return {"time": "2026-11-28T15:00:00.000Z", "type": "platform.report", "record": record}


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        ({"event": EVENT, "remaining_ms": 700}, {"Timeouts", "RemainingTime"}),
        ({"event": "watchdog.crash"}, {"Crashes"}),
        ({"event": "watchdog.sandbox_shutdown"}, set()),
        (report("success"), set()),
        (report("timeout"), {"Kills"}),
        (report("error", errorType="Runtime.ExitError"), {"Crashes"}),
        (report("error", errorType="Runtime.OutOfMemory"), {"Crashes"}),
        (report("error", errorType="Runtime.Unknown"), set()),
        # Another line repeats this, and must not be counted.
        ({**report("error", errorType="Runtime.ExitError"), "type": "platform.runtimeDone"}, set()),
    ],
)
def test_each_log_line_matches_the_expected_filters(
    event: dict[str, Any], counted: set[str]
) -> None:
    """Each line of the package's or of Lambda's is counted once, by these filters and no others."""
    patterns = filters()

    assert set(patterns) == {"Timeouts", "RemainingTime", "Kills", "Crashes"}
    assert {name for name, pattern in patterns.items() if matches(pattern, event)} == counted
