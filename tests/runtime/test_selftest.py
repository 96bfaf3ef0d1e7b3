"""Tests of the self-test for an AWS account, against the emulator and a stand-in for `aws`.

Claims that the emulator cannot show must be reported as such, and not be counted as held.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deploy.selftest import claims, run
from deploy.selftest.claims import CLAIMS, Claim
from deploy.selftest.emulated import EmulatedPlatform
from deploy.selftest.service import ServicePlatform

ROOT = Path(__file__).parents[2]
TIMEOUT = 8  # as in the template; last call is 0.5 s before it, which a busy machine needs
BY_NAME = {claim.name: claim for claim in CLAIMS}
SHOWN = [claim for claim in CLAIMS if not set(claim.needs) & set(EmulatedPlatform.lacks)]


def names(some: list[Claim]) -> list[str]:
    return [claim.name for claim in some]


@pytest.mark.parametrize("claim", SHOWN, ids=names(SHOWN))
def test_claim_holds_in_the_emulator(claim: Claim) -> None:
    """Each claim holds in the emulator with the package, each in a sandbox of its own."""
    with EmulatedPlatform(TIMEOUT) as at:
        verdict, seen = claim.verdict(at)

    assert verdict == "held", seen


def test_claims_beyond_the_emulator_are_not_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """A claim that the emulator cannot show is reported as not seen.

    The report has the reason, and the exit status differs from that of claims that held.
    """
    hidden = [claim for claim in CLAIMS if claim not in SHOWN]
    assert {need for claim in hidden for need in claim.needs} == set(EmulatedPlatform.lacks)

    status = run.main(["--emulator", *(f"--only={claim.name}" for claim in hidden)])

    told = capsys.readouterr().out
    assert status == run.NOT_SEEN
    assert told.endswith(f"0 held, 0 did not hold, {len(hidden)} not seen\n")
    assert all(reason in told for reason in EmulatedPlatform.lacks.values())


def test_false_claim_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A claim that does not hold fails the run.

    Here a handler without the package is claimed to be answered for.
    """
    functions = EmulatedPlatform.function
    monkeypatch.setattr(
        EmulatedPlatform,
        "function",
        lambda at, role: functions(at, role.replace("watched", "plain")),
    )

    status = run.main(["--emulator", "--timeout=1", "--only=answered-with-us"])

    told = capsys.readouterr().out
    assert status == 1
    assert "did not hold  answered-with-us" in told
    assert "the caller got Task timed out" in told


def test_command_runs_from_any_directory(tmp_path: Path) -> None:
    """The command runs as a script from any directory.

    A second dump does not replace the first one.
    """
    dump = tmp_path / "dump"
    command = [sys.executable, str(ROOT / "deploy/selftest/run.py"), "--emulator"]
    command += ["--only=sandbox-permits"]
    subprocess.run([*command, f"--dump={dump}"], cwd=tmp_path, check=True, timeout=60)
    dump.write_text(dump.read_text(encoding="utf-8").replace("libc ", "libc not "), "utf-8")
    done = subprocess.run(
        [*command, f"--beside={dump}"], check=True, timeout=60, capture_output=True, text=True
    )

    assert "1 held, 0 did not hold, 0 not seen" in done.stdout
    assert "-libc not " in done.stdout
    assert "+libc " in done.stdout


# ---- on AWS --------------------------------------------------------------------------------------

AWS = '''
"""AWS's command line, as far as the self-test calls it: names are checked, answers are made up."""

import base64, json, os, pathlib, sys
import botocore.session
from botocore import xform_name

service, operation, *rest = sys.argv[1:]
globals_ = {"output", "cli-binary-format", "cli-read-timeout"}
options, positional = {}, []
while rest:
    word = rest.pop(0)
    if word.startswith("--"):
        options[word[2:]] = rest.pop(0)
    else:
        positional.append(word)
model = botocore.session.get_session().get_service_model(service)
by_name = {xform_name(name, "-"): name for name in model.operation_names}
shape = model.operation_model(by_name[operation]).input_shape
known = {xform_name(member, "-") for member in shape.members}
unknown = options.keys() - known - globals_
missing = {xform_name(member, "-") for member in shape.required_members} - options.keys()
if unknown or missing:
    sys.exit(f"aws: unknown {unknown}, missing {missing}")

here = pathlib.Path(os.environ["STATE"])
name = options.get("function-name", "")
answer = {}
if operation == "describe-stack-resources":
    kinds = {"Log": "AWS::Logs::LogGroup"}
    ids = ["Log", "ImagePlain", "ImageWatched", "ImageSigterm"]
    answer = {"StackResources": [
        {"LogicalResourceId": i, "PhysicalResourceId": "stack-" + i,
         "ResourceType": kinds.get(i, "AWS::Lambda::Function")} for i in ids]}
elif operation == "invoke":
    do = json.loads(options["payload"])["do"]
    body, report = {"pid": 2}, {"type": "platform.report", "record": {
        "metrics": {"durationMs": 12.5, "billedDurationMs": 13}, "status": "success"}}
    if do == "sleep":
        is_plain = name.endswith("Plain")
        body = {"errorType": "Sandbox.Timedout" if is_plain else "LambdaTimeout"}
        report["record"]["metrics"]["durationMs"] = 8000.0 if is_plain else 6012.0
        report["record"]["status"] = "timeout" if is_plain else "error"
        if is_plain:
            (here / "pid").write_text("3")
    if do == "look" and name.endswith("Plain") and (here / "pid").exists():
        body["pid"] = 3
    pathlib.Path(positional[0]).write_text(json.dumps(body))
    lines = [json.dumps(report)]
    if do == "sleep" and not is_plain:
        lines.insert(0, json.dumps({"event": "watchdog.timeout"}))
    with (here / ("log-" + name)).open("a") as log:
        log.write("\\n".join([*lines, ""]))
    answer = {"StatusCode": 200, "LogResult": base64.b64encode(lines[-1].encode()).decode()}
elif operation == "update-function-configuration":
    lines = ["self-test: the sandbox's hook has run", '{"event": "watchdog.sandbox_shutdown"}']
    (here / ("log-" + name)).write_text("\\n".join(lines))
elif operation == "filter-log-events":
    answer = {"events": [
        {"message": line, "logStreamName": "2026/11/28/" + log.name[4:] + "[$LATEST]ab"}
        for log in here.glob("log-*") for line in log.read_text().splitlines()]}
elif operation == "get-metric-statistics":
    answer = {"Datapoints": [{"Sum": 1.0}]}
print(json.dumps(answer))
'''


@pytest.fixture
def on_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServicePlatform:
    """Return the container images of a stack that has three of the functions."""
    command = tmp_path / "bin" / "aws"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\n{textwrap.dedent(AWS)}", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(tmp_path))
    return ServicePlatform("stack", "Image", timeout=8.0, idle=0.0, patience=3.0)


@pytest.mark.parametrize(
    "name",
    ["killed-without-us", "answered-with-us", "report-has-no-timeout", "hooks-at-the-end"],
)
def test_claims_are_checked_with_the_aws_cli(on_aws: ServicePlatform, name: str) -> None:
    """The claims are checked by AWS's command, with operations and options of AWS's models.

    The seconds are those of Lambda's report.
    """
    verdict, seen = BY_NAME[name].verdict(on_aws)

    assert verdict == "held", seen
    if name == "answered-with-us":
        assert seen.startswith("after 6.01 of 8 s")


def test_metrics_are_awaited_and_counted(
    on_aws: ServicePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics are counted from a full minute on, and awaited until they arrive."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    assert BY_NAME["filters-count-one-each"].verdict(on_aws) == ("held", "one of each")


def test_claims_about_missing_functions_are_not_seen(on_aws: ServicePlatform) -> None:
    """A claim about a function that was not deployed is reported as not seen.

    So is a claim that a package cannot show.
    """
    verdict, seen = BY_NAME["exit-answers"].verdict(on_aws)
    assert (verdict, seen.split(";")[0]) == ("not seen", "stack has no ImageExit")

    verdict, seen = BY_NAME["snapshot-restored-several-times"].verdict(on_aws)
    assert (verdict, "zip functions" in seen) == ("not seen", True)


def test_missing_aws_cli_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without AWS's command the run says so before it checks anything."""
    monkeypatch.setenv("PATH", "/nowhere")

    assert run.main(["--stack", "stack"]) == 2
    assert "install AWS's command line" in capsys.readouterr().err


def test_template_has_a_function_for_every_role() -> None:
    """The template has a function for each role that a claim needs."""
    template = (ROOT / "deploy/selftest/template.yaml").read_text(encoding="utf-8")
    source = Path(claims.__file__).read_text(encoding="utf-8")

    for role in set(re.findall(r'at\.function\("(\w+)"\)', source)):
        assert f"\n  Zip{role.capitalize()}:\n" in template
        assert role in {"snapstart", "managed"} or f"\n  Image{role.capitalize()}:\n" in template


def test_templates_have_the_same_metric_filters() -> None:
    """The self-test's template has the same metric filters as the deployment's."""

    def patterns(path: str) -> dict[str, str]:
        text = (ROOT / path).read_text(encoding="utf-8")
        found = re.findall(
            r"FilterPattern: '(.*)'\n(?:.*\n){2}\s+MetricName: !Sub \"\S+-(\w+)\"", text
        )
        return {name: pattern for pattern, name in found}

    deployed, tested = patterns("deploy/template.yaml"), patterns("deploy/selftest/template.yaml")
    assert tested.keys() == {"Timeouts", "Kills"}
    assert tested.items() <= deployed.items()
