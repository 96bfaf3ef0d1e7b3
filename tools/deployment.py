"""Check that SAM, CDK and Terraform in deploy/ are right, and that they describe the same function.

    python3 dev.py template

* cfn-lint checks the SAM template, the repository's, the self-test's, and what CDK synthesises.
* The Terraform files are parsed, and every reference in them must name something that is declared.
  The provider's schema is checked by ``terraform validate`` only, which is not run here.
* Metric filters, alarms, queries, and the function's format of log must be the same in all three.

CDK needs Node.js; without it that part is skipped, and the command says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tools import ROOT

DEPLOY: Final = ROOT / "deploy"
TEMPLATES: Final = ("template.yaml", "repository.yaml", "selftest/template.yaml")

Kit = dict[str, Any]
"""What a deployment has of the things that must be the same."""


def of_template(template: Mapping[str, Any]) -> Kit:
    resources = list(template["Resources"].values())

    def properties(kind: str) -> Iterator[Mapping[str, Any]]:
        return (r.get("Properties", {}) for r in resources if r["Type"] == kind)

    filters = {}
    for each in properties("AWS::Logs::MetricFilter"):
        [metric] = each["MetricTransformations"]
        filters[_suffix(metric["MetricName"])] = each["FilterPattern"], metric["MetricValue"]
    alarms = {
        _suffix(each["MetricName"]): len(each.get("AlarmActions", ()))
        for each in properties("AWS::CloudWatch::Alarm")
    }
    queries = {
        _text(each["Name"]).rpartition("/")[2]: each["QueryString"]
        for each in properties("AWS::Logs::QueryDefinition")
    }
    functions = [*properties("AWS::Serverless::Function"), *properties("AWS::Lambda::Function")]
    [function] = functions
    return {
        "filters": filters,
        "alarms": alarms,
        "queries": queries,
        "variables": sorted(function["Environment"]["Variables"]),
        "log format": function["LoggingConfig"]["LogFormat"],
        "dashboards": len(list(properties("AWS::CloudWatch::Dashboard"))),
        "topics": len(list(properties("AWS::SNS::Topic"))),
    }


def _text(value: Any) -> str:
    """A text, or the text that is given to Fn::Sub."""
    return str(value["Fn::Sub"] if isinstance(value, dict) else value)


def _suffix(name: Any) -> str:
    return _text(name).rpartition("-")[2]


def synthesised(folder: str) -> Path:
    """Have CDK make its template; as `cdk synth` does it, without its command, which npm has."""
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=DEPLOY / "cdk",
        env={**os.environ, "CDK_OUTDIR": folder},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # of interest if it fails only: it warns of the age of Node.js
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout)
    return Path(folder, "orders.template.json")


def of_terraform(source: Mapping[str, Any]) -> Kit:
    [values] = source["locals"]
    resources = [
        (kind, block)
        for resource in source["resource"]
        for kind, named in resource.items()
        for block in named.values()
    ]

    def blocks(kind: str) -> list[Mapping[str, Any]]:
        return [block for k, block in resources if k == kind]

    patterns = {name: each["pattern"] for name, each in values["filters"].items()}
    filters: dict[str, tuple[str, str]] = {}
    for each in blocks("aws_cloudwatch_log_metric_filter"):
        [metric] = each["metric_transformation"]
        if each.get("for_each") == "${local.filters}":
            filters |= {name: (pattern, metric["value"]) for name, pattern in patterns.items()}
        else:
            [name] = re.findall(r"\$\{local\.filters\.(\w+)\.pattern\}", each["pattern"])
            filters[_suffix(metric["name"])] = patterns[name], metric["value"]
    alarms: dict[str, int] = {}
    for each in blocks("aws_cloudwatch_metric_alarm"):
        names = patterns if "for_each" in each else [each["metric_name"]]
        alarms |= {name: len(each.get("alarm_actions", ())) for name in names}
    [function] = blocks("aws_lambda_function")
    return {
        "filters": filters,
        "alarms": alarms,
        "queries": {name: _heredoc(text) for name, text in values["queries"].items()},
        "variables": sorted(function["environment"][0]["variables"]),
        "log format": function["logging_config"][0]["log_format"],
        "dashboards": len(blocks("aws_cloudwatch_dashboard")),
        "topics": len(blocks("aws_sns_topic")),
    }


def _heredoc(text: str) -> str:
    """The lines of a heredoc, without the mark around it and what they are indented by."""
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and "QUERY" not in line)


def undeclared(source: Mapping[str, Any], text: str) -> set[str]:
    """What the expressions of the Terraform files name, and nothing declares."""
    declared = {f"var.{name}" for block in source["variable"] for name in block}
    declared |= {f"local.{name}" for block in source["locals"] for name in block}
    for prefix, kind in (("", "resource"), ("data.", "data")):
        for block in source[kind]:
            declared |= {f"{prefix}{t}.{name}" for t, named in block.items() for name in named}
    code = re.sub(r"(?m)^\s*#.*$", "", text)
    found = {f"{a}.{b}" for a, b in re.findall(r"\b(var|local)\.(\w+)", code)}
    found |= {f"data.{a}.{b}" for a, b in re.findall(r"\bdata\.(aws_\w+)\.(\w+)", code)}
    found |= {f"{a}.{b}" for a, b in re.findall(r"(?<!data\.)\b(aws_\w+)\.(\w+)", code)}
    unused = {f"{name}, which nothing uses" for name in declared - found if name[:4] == "var."}
    return (found - declared) | unused


def parsed_terraform() -> tuple[dict[str, list[Any]], str]:
    """All files, parsed and put together, without quotes and remarks; and their text."""
    import hcl2  # noqa: PLC0415 - in the environment of `dev.py template` only

    source: dict[str, list[Any]] = {}
    text = ""
    for path in sorted((DEPLOY / "terraform").glob("*.tf")):
        text += path.read_text(encoding="utf-8")
        for kind, found in _plain(hcl2.loads(path.read_text(encoding="utf-8"))).items():
            source.setdefault(kind, []).extend(found)
    return source, text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items() if not k.startswith("__")}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and re.fullmatch(r'"(?:[^"\\]|\\.)*"', value):
        return json.loads(value)
    return value


def differences(kits: Mapping[str, Kit]) -> list[str]:
    """Where a deployment differs from the first; and alarms without an action."""
    (first, expected), *others = kits.items()
    found = [
        f"{name}: {part} {kit[part]!r}, but {first} has {expected[part]!r}"
        for name, kit in others
        for part in expected
        if kit[part] != expected[part]
    ]
    for name, kit in kits.items():
        found += [f"{name}: the alarm {a} has no action" for a, n in kit["alarms"].items() if not n]
    return found


def main() -> int:
    from cfnlint.decode import decode  # noqa: PLC0415 - in the environment of `dev.py template` only

    linting = [["cfn-lint", *(str(DEPLOY / name) for name in TEMPLATES)]]
    template, _ = decode(str(DEPLOY / TEMPLATES[0]))
    kits = {"SAM": of_template(template)}
    with tempfile.TemporaryDirectory(prefix="cdk-") as folder:
        if shutil.which("node") is None:
            print("!!! SKIPPED: CDK, which needs Node.js")
        else:
            made = synthesised(folder)
            # W3005: CDK says twice that a function depends on its role.
            linting.append(["cfn-lint", "--ignore-checks", "W3005", "--", str(made)])
            kits["CDK"] = of_template(json.loads(made.read_text(encoding="utf-8")))
        failed = [command for command in linting if subprocess.run(command, check=False).returncode]
    source, text = parsed_terraform()
    kits["Terraform"] = of_terraform(source)
    wrong = [f"Terraform: {name} is not declared" for name in sorted(undeclared(source, text))]
    wrong += differences(kits)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if failed or wrong:
        return 1
    print(f"{', '.join(kits)}: the same filters, alarms, queries, variables; cfn-lint: no problems")
    return 0


if __name__ == "__main__":
    sys.exit(main())
