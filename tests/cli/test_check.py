"""What ``check`` tells of settings, handler and timeline, and what it objects to."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda._config import SETTINGS

from .support import BOUND, HANDLERS, document, environ, run

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "WATCHDOG_LAMBDA_"


def check(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run("check", *arguments, **{PREFIX + n: v for n, v in settings.items()})


def findings(found: dict[str, Any], level: str) -> list[str]:
    return [finding["text"] for finding in found["findings"] if finding["level"] == level]


def test_settings_are_told_with_their_sources(tmp_path: Path) -> None:
    """Every one of them, and where it came from, a @watch in the code included."""
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


def test_a_handler_that_its_code_has_switched_off_is_told() -> None:
    """It would be killed at its timeout, so there is no timeline to show."""
    found = document(check("checked.off", "--json"))

    told = {s["name"]: (s["value"], s["source"]) for s in found["settings"]}
    assert told["DISABLED"] == (True, "code")
    assert found["timeline"] is None
    assert any("nothing is watched" in text for text in findings(found, "warning"))


def test_sources_stand_below_each_other() -> None:
    """Whatever is the longest value."""
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
def test_handler_is_told_with_its_place(
    name: str, line: str, *, is_async: bool, is_watched: bool
) -> None:
    """File, line, kind, and whether its code watches it already."""
    found = document(check(name, "--json"))["handler"]

    assert (found["name"], found["file"]) == (name, "checked.py")
    lines = (HANDLERS / "checked.py").read_text(encoding="utf-8").splitlines()
    place = found["line"] - 1
    assert any(line in text for text in lines[place : place + 2])
    assert (found["is_async"], found["is_watched"]) == (is_async, is_watched)


def test_timeline_is_that_of_the_timeout() -> None:
    """Hooks in their stages, last call, and what there is for a cleanup."""
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


def test_text_is_for_people() -> None:
    """The same, drawn to scale, on standard output; what the import prints goes to the other."""
    done = check("checked.plain", "--timeout", "30", SIGTERM="1")

    assert done.returncode == 0
    assert done.stdout.startswith("handler  checked.plain: checked.py:")
    assert "imported" not in done.stdout
    assert "imported" in done.stderr
    assert re.search(r"^  SIGTERM +1 +environment$", done.stdout, re.MULTILINE)
    assert re.search(r"^hook +h+ +27 s checked\.flush: up to 1 s$", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("\nnothing to object to\n")


@pytest.mark.parametrize(
    ("arguments", "settings", "warning"),
    [
        ((), {"GRACE": "1"}, "WATCHDOG_LAMBDA_GRACE is no setting"),
        ((), {"grace_period": "1"}, "did you mean WATCHDOG_LAMBDA_GRACE_PERIOD"),
        (("--timeout", "6"), {"GRACE_PERIOD": "2"}, "shrinks to 1.5 s, a quarter of the 6 s"),
        (("--timeout", "6"), {"HOOK_BUDGET": "1"}, "hook budget of 1 s shrinks"),
        (("--timeout", "3"), {"LAST_CALL": "0.5"}, "last call at 0.5 s shrinks to 0.1875 s"),
        (("--timeout", "0.3"), {}, "one hook has 25 ms (checked.flush)"),
        (("--timeout", "12"), {}, "before=10 (checked.warn) is more than three quarters"),
        ((), {"WAKE_SIGNAL": "SIGINT"}, "WAKE_SIGNAL=SIGINT is in use by somebody else"),
        ((), {"DISABLED": "1"}, "nothing is watched"),
        ((), {"SIGTERM": "0"}, "sandbox_shutdown_hook (checked.close_pool) never runs"),
    ],
)
def test_warnings(arguments: tuple[str, ...], settings: dict[str, str], warning: str) -> None:
    """Each of what is doubtful; without a reason there is none, see below."""
    words = ("checked.plain", "--timeout", "60", "--json", *arguments)
    found = document(check(*words, **{"SIGTERM": "1"} | settings))

    assert found["exit_status"] == 0
    assert any(warning in text for text in findings(found, "warning"))


def test_a_late_stage_is_noted() -> None:
    """It may be meant; see the page on flushing telemetry."""
    words = ("checked.plain", "--timeout", "60", "--json", "--strict")
    found = document(check(*words, SIGTERM="1", GRACE_PERIOD="12"))

    assert found["exit_status"] == 0
    [note] = findings(found, "note")
    assert "(checked.warn) is later than the grace period's begin, 12 s before" in note


def test_warnings_count_with_strict_only() -> None:
    """For a pipeline."""
    done = check("checked.plain", "--timeout", "60", "--strict")

    assert done.returncode == 1
    assert re.search(r"^warning: sandbox_shutdown_hook", done.stdout, re.MULTILINE)


def test_managed_instances_are_told_what_has_no_effect() -> None:
    """Both settings, each by itself."""
    extra = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", f"{PREFIX}LAST_RESORT": "exit"}
    words = ("check", "checked.plain", "--timeout", "60", "--json")
    found = document(run(*words, **extra, WATCHDOG_LAMBDA_SIGTERM="1"))

    assert findings(found, "warning") == [
        "SIGTERM=1 has no effect in Managed Instances",
        "LAST_RESORT=exit has no effect in Managed Instances",
    ]


def test_nothing_to_object_to_is_strict_too() -> None:
    """Notes are no warnings: the default grace period in a short timeout is as it should be."""
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
        ((), {}, "no handler to wrap"),
        (("watchdog_lambda.watch",), {}, "names watchdog_lambda itself"),
        (("scenes.handler",), {"GRACE_PERIOD": "2s"}, "GRACE_PERIOD='2s' is not a number"),
        (("scenes.handler",), {"METRICS_NAMESPACE": "AWS/Lambda"}, "use for example 'Orders'"),
        (("scenes.handler",), {"HOOK_BUDGET": "3"}, "leave the handler no time to unwind"),
    ],
)
def test_errors(arguments: tuple[str, ...], settings: dict[str, str], error: str) -> None:
    """What Lambda's own start would fail with: exit status 2, and no traceback."""
    variable = settings.pop("env", None)
    more = ("--env", f"{variable}=1") if variable else ()
    done = check(*arguments, "--json", *more, **settings)

    assert done.returncode == 2
    assert any(error in text for text in findings(document(done), "error"))
    assert "Traceback" not in done.stderr


def test_every_bad_setting_is_told_at_once() -> None:
    """Not the first one only, as at a start."""
    found = document(check("scenes.handler", "--json", GRACE_PERIOD="x", INTERRUPT="y"))

    assert len(findings(found, "error")) == 2
    assert found["timeline"] is None


def test_thread_of_the_imports_does_not_keep_it() -> None:
    """It says what it has to, and ends."""
    done = check("lingering.handler", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["handler"]["file"] == "lingering.py"


def test_powertools_is_not_needed() -> None:
    """Nor is rich: what the function's image has is enough to check it there."""
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
