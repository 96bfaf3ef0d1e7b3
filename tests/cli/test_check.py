"""Tests of ``check``: what it shows of settings, handler and timeline, and its warnings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda._config import SETTINGS
from watchdog_lambda.cli.template import _yaml

from .support import BOUND, HANDLERS, document, environ, run

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "WATCHDOG_LAMBDA_"


def check(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run("check", *arguments, **{PREFIX + n: v for n, v in settings.items()})


def findings(found: dict[str, Any], level: str) -> list[str]:
    return [finding["text"] for finding in found["findings"] if finding["level"] == level]


def test_settings_are_shown_with_their_sources(tmp_path: Path) -> None:
    """Every setting is shown with its source, including a @watch in the code."""
    (tmp_path / "env").write_text(f"{PREFIX}INTERRUPT=base\n{PREFIX}LAST_CALL=1\n")
    done = check(
        *("checked.handler", "--json", "--env", f"{PREFIX}LAST_CALL=0.25"),
        *("--env-file", str(tmp_path / "env")),
        GRACE_PERIOD="4",
        WAKE_SIGNAL="sigurg",
    )

    found = document(done)
    told = {s["name"]: (s["value"], s["source"]) for s in found["settings"]}
    assert list(told) == [name.upper() for name in SETTINGS]
    assert told["GRACE_PERIOD"] == (2.0, "code")
    assert told["LAST_RESORT"] == ("exit", "code")
    assert told["LAST_CALL"] == (0.25, "--env")
    assert told["INTERRUPT"] == ("base", "--env-file")
    assert told["WAKE_SIGNAL"] == ("SIGURG", "environment")
    assert told["HOOK_BUDGET"] == (None, "default")
    assert told["HANDLER"] == ("checked.handler", "argument")


def test_handler_disabled_in_code_has_no_timeline() -> None:
    """For a handler that is disabled in code no timeline is shown, because Lambda would kill it."""
    found = document(check("checked.off", "--json"))

    told = {s["name"]: (s["value"], s["source"]) for s in found["settings"]}
    assert told["DISABLED"] == (True, "code")
    assert found["timeline"] is None
    assert any("nothing is watched" in text for text in findings(found, "warning"))


def test_setting_sources_are_aligned() -> None:
    """The sources are aligned in a column, whatever the longest value is."""
    told = check("checked.plain").stdout.partition("settings\n")[2].partition("\n\n")[0]

    columns = {re.search("  (default|argument)$", line).start() for line in told.splitlines()}  # type: ignore[union-attr]
    assert len(told.splitlines()) == len(SETTINGS)
    assert len(columns) == 1


@pytest.mark.parametrize(
    ("name", "line", "is_async", "is_watched"),
    [
        ("checked.handler", "async def handler", True, True),
        ("checked.plain", "def plain", False, False),
        ("checked.called", "def __call__", False, False),
        ("checked.partial", "def plain", False, False),
    ],
)
def test_handler_is_shown_with_file_line_and_kind(
    name: str, line: str, *, is_async: bool, is_watched: bool
) -> None:
    """The handler is shown with its file, line and kind, and whether its code watches it."""
    found = document(check(name, "--json"))["handler"]

    assert (found["name"], found["file"]) == (name, "checked.py")
    lines = (HANDLERS / "checked.py").read_text(encoding="utf-8").splitlines()
    place = found["line"] - 1
    assert any(line in text for text in lines[place : place + 2])
    assert (found["is_async"], found["is_watched"]) == (is_async, is_watched)


def test_timeline_shows_stages_last_call_and_cleanup() -> None:
    """The timeline shows the hooks in their stages, last call, and the time for a cleanup."""
    found = document(check("checked.handler", "--timeout", "30", "--json"))

    timeline = found["timeline"]
    assert timeline["grace_period"] == 2.0
    assert timeline["hook_budget"] == pytest.approx(2 / 3)
    assert timeline["last_call"] == 0.5
    assert [(p["phase"], p["start"], p["end"]) for p in timeline["phases"]] == [
        ("running", 0, 28),
        ("hook", 20, 20.667),
        ("hook", 28, 28.667),
        ("interrupt", 28, 28.667),
        ("cleanup", 28.667, 29.5),
        ("last call", 29.5, 30),
        ("killed", 30, 30),
    ]
    assert found["hooks"] == [
        {"name": "checked.warn", "before": 10.0},
        {"name": "checked.flush", "before": None},
    ]


def test_text_output_has_timeline_drawn_to_scale() -> None:
    """The text output is on standard output and drawn to scale.

    The import's output is on standard error.
    """
    done = check("checked.plain", "--timeout", "30", SIGTERM="1")

    assert done.returncode == 0
    assert done.stdout.startswith("handler  checked.plain: checked.py:")
    assert "imported" not in done.stdout
    assert "imported" in done.stderr
    assert re.search(r"^  SIGTERM +1 +environment$", done.stdout, re.MULTILINE)
    assert re.search(r"^hook +h+ +27 s checked\.flush: up to 1 s$", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("\nno problems found\n")


@pytest.mark.parametrize(
    ("arguments", "settings", "warning"),
    [
        ((), {"GRACE": "1"}, "WATCHDOG_LAMBDA_GRACE is not a setting"),
        ((), {"grace_period": "1"}, "did you mean WATCHDOG_LAMBDA_GRACE_PERIOD"),
        (
            ("--timeout", "6"),
            {"GRACE_PERIOD": "2"},
            "a quarter of the invocation's 6 s",
        ),
        (("--timeout", "6"), {"HOOK_BUDGET": "1"}, "hook budget of 1 s shrinks"),
        (("--timeout", "3"), {"LAST_CALL": "0.5"}, "last call at 0.5 s shrinks to 0.1875 s"),
        (("--timeout", "0.3"), {}, "one hook has 25 ms (checked.flush)"),
        (("--timeout", "12"), {}, "before=10 (checked.warn) is more than three quarters"),
        ((), {"WAKE_SIGNAL": "SIGINT"}, "WAKE_SIGNAL=SIGINT has a handler already"),
        ((), {"DISABLED": "1"}, "nothing is watched"),
        ((), {"SIGTERM": "0"}, "sandbox_shutdown_hook (checked.close_pool) never runs"),
    ],
)
def test_doubtful_setting_gives_warning(
    arguments: tuple[str, ...], settings: dict[str, str], warning: str
) -> None:
    """Each doubtful setting gives its warning."""
    words = ("checked.plain", "--timeout", "60", "--json", *arguments)
    found = document(check(*words, **{"SIGTERM": "1"} | settings))

    assert found["exit_status"] == 0
    assert any(warning in text for text in findings(found, "warning"))


def test_late_stage_is_noted() -> None:
    """A late stage is noted, since it may be intended; see the page on flushing telemetry."""
    words = ("checked.plain", "--timeout", "60", "--json", "--strict")
    found = document(check(*words, SIGTERM="1", GRACE_PERIOD="12"))

    assert found["exit_status"] == 0
    [note] = findings(found, "note")
    assert "(checked.warn) is later than the start of the grace period, 12 s before" in note


@pytest.mark.parametrize("recycle", ["auto", "never"])
def test_clients_known_to_recover_are_noted(recycle: str) -> None:
    """Clients that are known to recover are shown, with RECYCLE=auto.

    They are those that the handler's module has imported.
    """
    found = document(check("known.handler", "--json", RECYCLE=recycle))

    said = "RECYCLE=auto: after a timeout inside of mylib, redis the process is kept; "
    notes = [note for note in findings(found, "note") if note.startswith(said)]
    assert len(notes) == (recycle == "auto")


def test_warnings_fail_the_check_only_with_strict() -> None:
    """Warnings change the exit status only with --strict, which is for pipelines."""
    done = check("checked.plain", "--timeout", "60", "--strict")

    assert done.returncode == 1
    assert re.search(r"^warning: sandbox_shutdown_hook", done.stdout, re.MULTILINE)


def test_settings_without_effect_in_managed_instances_are_noted() -> None:
    """In Managed Instances each of the two settings that have no effect is shown."""
    extra = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", f"{PREFIX}LAST_RESORT": "exit"}
    words = ("check", "checked.plain", "--timeout", "60", "--json")
    found = document(run(*words, **extra, WATCHDOG_LAMBDA_SIGTERM="1"))

    assert findings(found, "warning") == [
        "SIGTERM=1 has no effect in Managed Instances",
        "LAST_RESORT=exit has no effect in Managed Instances",
    ]


def test_supervisor_is_noted_with_its_cost() -> None:
    """A supervisor is shown with its cost, and whether it is possible.

    In Managed Instances it is the same.
    """
    settings = {"LAST_RESORT": "supervise"}
    found = document(check("checked.plain", "--timeout", "60", "--json", **settings))
    workers = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", f"{PREFIX}LAST_RESORT": "supervise"}
    managed = document(run("check", "checked.plain", "--timeout", "60", "--json", **workers))

    for each in (found, managed):
        [note] = [text for text in findings(each, "note") if "supervise" in text]
        assert "at each cold start" in note
        assert not any("LAST_RESORT" in text for text in findings(each, "warning"))


def test_strict_check_without_warnings_passes() -> None:
    """With --strict a check without warnings passes.

    Notes are no warnings: the default grace period in a short timeout is fine.
    """
    found = document(check("checked.plain", "--timeout", "20", "--json", "--strict", SIGTERM="1"))

    assert found["exit_status"] == 0
    assert findings(found, "warning") == []
    shrunk = document(check("scenes.handler", "--json", "--strict"))
    assert shrunk["exit_status"] == 0
    assert any("shrinks to 0.75 s" in text for text in findings(shrunk, "note"))


@pytest.mark.parametrize(
    ("arguments", "settings", "error"),
    [
        (("nowhere.handler",), {}, "Runtime.ImportModuleError: Unable to import module 'nowhere'"),
        (("scenes.nothing",), {}, "Runtime.HandlerNotFound: Handler 'nothing' missing"),
        (("scenes.__doc__",), {}, "scenes.__doc__: a str, which cannot be called"),
        (("scenes.handler",), {"env": "FAIL_AT_IMPORT"}, "ValueError: no such table"),
        (("scenes:handler",), {}, "did you mean scenes.handler?"),
        (("odd.Handler",), {}, "odd.Handler is a class"),
        ((), {}, "no handler to wrap"),
        (("watchdog_lambda.watch",), {}, "names watchdog_lambda itself"),
        (("scenes.handler",), {"GRACE_PERIOD": "2s"}, "GRACE_PERIOD='2s' is not a number"),
        (("scenes.handler",), {"METRICS_NAMESPACE": "AWS/Lambda"}, "use for example 'Orders'"),
        (("bare.handler",), {"METRICS_NAMESPACE": "Orders"}, "needs aws-lambda-powertools"),
        (("scenes.handler",), {"HOOK_BUDGET": "3"}, "leave the handler no time to unwind"),
    ],
)
def test_start_errors_give_exit_status_2(
    arguments: tuple[str, ...], settings: dict[str, str], error: str
) -> None:
    """An error with which Lambda's own start would fail gives exit status 2, and no traceback."""
    variable = settings.pop("env", None)
    more = ("--env", f"{variable}=1") if variable else ()
    done = check(*arguments, "--json", *more, **settings)

    assert done.returncode == 2
    assert any(error in text for text in findings(document(done), "error"))
    assert "Traceback" not in done.stderr


def test_errors_are_shown_first() -> None:
    """Errors are shown before settings and timeline.

    Those cannot be used until the errors are corrected.
    """
    done = check("scenes:handler")

    assert done.stdout.startswith("error: scenes:handler: Runtime.MalformedHandlerName: Bad")
    assert done.stdout.index("error: ") < done.stdout.index("settings") < len(done.stdout)
    assert done.stdout.count("error: ") == 1


def test_dict_subclass_is_accepted_as_handler() -> None:
    """A dict subclass is accepted as the handler, because its instances are answers."""
    assert document(check("odd.Answer", "--json"))["handler"]["name"] == "odd.Answer"


# ---- the caller --------------------------------------------------------------------------------

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Patience: {Type: Number, Default: 60}
Globals:
  Function: {Timeout: 20}
Resources:
  Table: {Type: AWS::DynamoDB::Table}
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      Handler: checked.handler
      Timeout: !Ref Patience
      Environment: {Variables: {TABLE: !GetAtt Table.Arn}}
      Events:
        Http: {Type: HttpApi}
        Rest: {Type: Api, Properties: {Path: /, Method: any}}
        Queue: {Type: SQS, Properties: {Queue: !Sub "${Table}-queue"}}
  Image:
    Type: AWS::Serverless::Function
    Properties:
      ImageConfig: {Command: [checked.plain]}
      Events:
        Http: {Type: HttpApi, Properties: {TimeoutInMillis: 5000}}
  Unknown:
    Type: AWS::Lambda::Function
    Properties:
      Timeout: !If [IsLarge, 60, 30]
      Environment: {Variables: {WATCHDOG_LAMBDA_HANDLER: scenes.handler}}
"""


def too_late(seconds: str, caller: str, enough: str) -> str:
    return (
        f"an invocation may take {seconds} s, but its caller waits only {caller} and gets no "
        f"answer to a timeout; set WATCHDOG_LAMBDA_TIMEOUT={enough}"
    )


@pytest.mark.parametrize(
    ("arguments", "settings", "warning"),
    [
        (("--timeout", "60"), {}, too_late("60", "29 s (--caller-timeout)", "28")),
        (("--timeout", "60"), {"TIMEOUT": "30"}, too_late("30", "29 s (--caller-timeout)", "28")),
        (("--timeout", "60"), {"TIMEOUT": "28"}, None),
        (("--timeout", "29"), {}, None),
    ],
)
def test_caller_timeout_before_function_timeout_gives_warning(
    arguments: tuple[str, ...], settings: dict[str, str], warning: str | None
) -> None:
    """A caller that gives up before the invocation's time, TIMEOUT included, is warned of."""
    words = ("checked.plain", "--json", "--caller-timeout", "29", *arguments)
    found = findings(document(check(*words, **{"SIGTERM": "1"} | settings)), "warning")

    assert [text for text in found if "its caller" in text] == ([warning] if warning else [])


def test_suggested_timeout_leaves_a_tenth_of_a_short_caller_timeout() -> None:
    """A caller that waits for a short time leaves a tenth of it; a second of two would be half."""
    found = document(check("checked.plain", "--json", "--timeout", "9", "--caller-timeout", "1.5"))

    assert too_late("9", "1.5 s (--caller-timeout)", "1.35") in findings(found, "warning")


@pytest.mark.parametrize(
    ("handler", "timeout", "caller"),
    [
        ("checked.handler", 60.0, too_late("60", "29 s (API Gateway)", "28")),
        ("checked.plain", 20.0, too_late("20", "5 s (API Gateway's HTTP API)", "4")),
    ],
)
@pytest.mark.parametrize("name", ["template.yaml", "template.json"])
def test_template_supplies_timeout_and_caller(
    tmp_path: Path, handler: str, timeout: float, caller: str, name: str
) -> None:
    """The template gives the function's timeout and its caller if the command line does not.

    The function is found by its handler, and a parameter's default counts.
    """
    template = tmp_path / name
    is_yaml = name.endswith("yaml")
    template.write_text(TEMPLATE if is_yaml else json.dumps(_yaml(template, TEMPLATE)))
    words = (handler, "--json", "--template", str(template))

    found = document(check(*words))
    assert found["timeout"] == timeout
    assert caller in findings(found, "warning")
    given = document(check(*words, "--timeout", "4", "--caller-timeout", "10"))
    assert given["timeout"] == 4.0
    assert not [text for text in findings(given, "warning") if "its caller" in text]


@pytest.mark.parametrize(
    ("handler", "text", "problem"),
    [
        ("odd.handler", TEMPLATE, "it has 3 functions, of which 3 could be meant"),
        ("scenes.handler", TEMPLATE, "the function's Timeout is not a number"),
        ("scenes.handler", "{}", "it has 0 functions, of which none could be meant"),
        ("scenes.handler", "[1, 2", "cannot be read: "),
        ("scenes.handler", "{1", "cannot be read: "),
    ],
)
def test_template_without_required_value_is_refused(
    tmp_path: Path, handler: str, text: str, problem: str
) -> None:
    """A template that lacks a value is refused, with the option that gives it."""
    template = tmp_path / "template.yaml"
    template.write_text(text)

    done = check(handler, "--template", str(template))

    assert done.returncode == 2
    assert f"--template {template}: {problem}" in done.stderr


def test_yaml_template_without_library_names_the_library(tmp_path: Path) -> None:
    """A template in YAML needs a library, which the error names; one in JSON does not."""
    template = tmp_path / "template.yaml"
    template.write_text(TEMPLATE)
    program = "import sys; sys.modules.update(yaml=None); from watchdog_lambda.cli import main; "
    program += f"sys.exit(main(['check', 'scenes.handler', '--template', {str(template)!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=HANDLERS,
        env=environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )

    assert done.returncode == 2
    assert "pip install 'watchdog-lambda[cli]'" in done.stderr


def test_template_path_must_be_a_file() -> None:
    """A template that is no file, such as a folder, is refused."""
    done = check("scenes.handler", "--template", "/nowhere.yaml")

    assert done.returncode == 2
    assert "argument --template: '/nowhere.yaml' is not a file" in done.stderr


def test_all_bad_settings_are_reported_at_once() -> None:
    """Every bad setting is reported at once. The start of a function reports only the first."""
    found = document(check("scenes.handler", "--json", GRACE_PERIOD="x", INTERRUPT="y"))

    assert len(findings(found, "error")) == 2
    assert found["timeline"] is None


def test_thread_started_by_handler_import_does_not_block_exit() -> None:
    """A thread that the handler's import starts does not keep the command from ending."""
    done = check("lingering.handler", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["handler"]["file"] == "lingering.py"


def test_check_runs_without_powertools_and_rich() -> None:
    """`check` needs neither Powertools nor rich, so it runs with what the function's image has."""
    program = "import sys; sys.modules.update(aws_lambda_powertools=None, rich=None, shtab=None)"
    program += "; from watchdog_lambda.cli import main; sys.exit(main(['check', 'scenes.handler']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=HANDLERS,
        env=environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("handler  scenes.handler: scenes.py:")
