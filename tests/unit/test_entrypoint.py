"""Tests of the handler's choice and import, and of the command.

The tests with the real runtime are in runtime/.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from awslambdaric.lambda_runtime_exception import FaultException

from watchdog_lambda import ConfigurationError
from watchdog_lambda.__main__ import main
from watchdog_lambda._lambda import command as _command

if TYPE_CHECKING:
    from pathlib import Path

APP = """
import os
seen = os.environ.get("_HANDLER")

def handler(event, context):
    return event
"""


@pytest.fixture
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the module for a handler of the test's own."""
    (tmp_path / "entry_app.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WATCHDOG_LAMBDA_HANDLER", "entry_app.handler")
    monkeypatch.delitem(sys.modules, "watchdog_lambda.entrypoint", raising=False)
    monkeypatch.delitem(sys.modules, "entry_app", raising=False)
    import watchdog_lambda.entrypoint as module  # noqa: PLC0415

    return module


def test_import_resolves_and_wraps_the_handler(entrypoint: Any) -> None:
    """Importing the entrypoint gives the runtime a handler that calls the user's."""
    assert entrypoint.handler({"a": 1}, None) == {"a": 1}
    assert entrypoint.handler.__name__ == "guarded"


def test_bad_setting_is_shown_without_import_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad setting's error has its type and message, and no frames of the import.

    The user's own line is shown if it is the cause.
    """
    (tmp_path / "entry_app.py").write_text(APP)
    (tmp_path / "entry_bad.py").write_text("import watchdog_lambda\nwatchdog_lambda.watch(grace=2)")
    monkeypatch.syspath_prepend(str(tmp_path))

    def start(name: str) -> Any:
        monkeypatch.delitem(sys.modules, "watchdog_lambda.entrypoint", raising=False)
        monkeypatch.setenv("WATCHDOG_LAMBDA_HANDLER", name)
        with pytest.raises(ConfigurationError) as caught:
            importlib.import_module("watchdog_lambda.entrypoint")
        error = caught.value
        assert isinstance(error, FaultException)
        assert (type(error).__name__, error.exception_type) == ("ConfigurationError",) * 2
        assert error.args == (error.msg,) == (str(error),)
        return error

    in_code: Any = start("entry_bad.handler")
    assert str(in_code) == "grace=2 is not an option; did you mean grace_period?"
    assert len(in_code.trace) == 1
    assert "entry_bad.py" in in_code.trace[0]
    monkeypatch.setenv("WATCHDOG_LAMBDA_GRACE_PERIOD", "2s")
    in_variable: Any = start("entry_app.handler")
    assert str(in_variable).startswith("WATCHDOG_LAMBDA_GRACE_PERIOD='2s' is not a number")
    assert in_variable.trace == []


def test_bad_setting_is_raised_unchanged_without_the_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the runtime a bad setting's error is raised unchanged."""
    monkeypatch.setitem(sys.modules, "awslambdaric.lambda_runtime_exception", None)
    monkeypatch.delitem(sys.modules, "watchdog_lambda._lambda.init_error", raising=False)
    error = ConfigurationError("bad")

    assert _command.as_init_error(error) is error


@pytest.mark.parametrize(
    ("environ", "argument", "chosen"),
    [
        ({"WATCHDOG_LAMBDA_HANDLER": "a.b", "_HANDLER": "e.f"}, "c.d", "a.b"),
        ({"WATCHDOG_LAMBDA_HANDLER": " ", "_HANDLER": "e.f"}, "c.d", "c.d"),
        ({"_HANDLER": "e.f"}, None, "e.f"),
        ({"_HANDLER": "watchdog_lambda.entrypoint.handler"}, "c.d", "c.d"),
        ({"WATCHDOG_LAMBDA_HANDLER": "watchdog_lambda_app.handler"}, None, None),
    ],
)
def test_handler_precedence(
    environ: dict[str, str], argument: str | None, chosen: str | None
) -> None:
    """The setting takes precedence over the argument, and that over Lambda's variable.

    A name that resembles the package's is accepted.
    """
    expected = chosen or environ["WATCHDOG_LAMBDA_HANDLER"]

    assert _command.choose(environ, argument) == expected


@pytest.mark.parametrize(
    "name",
    [
        "watchdog_lambda.entrypoint.handler",
        "watchdog_lambda/entrypoint.handler",
        "watchdog_lambda.handler",
    ],
)
def test_handler_naming_the_package_is_refused(name: str) -> None:
    """A handler that names the package is a configuration error, and no endless loop.

    The error says what to set.
    """
    with pytest.raises(ConfigurationError, match=r"names watchdog_lambda itself.*app\.handler"):
        _command.choose({"WATCHDOG_LAMBDA_HANDLER": name}, None)
    with pytest.raises(ConfigurationError, match="_HANDLER"):
        _command.choose({"_HANDLER": name}, None)


def test_missing_handler_is_refused() -> None:
    """If no handler is named, the error names the variable to set."""
    with pytest.raises(ConfigurationError, match="set WATCHDOG_LAMBDA_HANDLER"):
        _command.choose({}, None)


@pytest.mark.parametrize("ours", ["watchdog_lambda.entrypoint.handler", "watchdog_lambda"])
def test_handler_variable_names_the_user_handler(
    entrypoint: Any, monkeypatch: pytest.MonkeyPatch, ours: str
) -> None:
    """_HANDLER is set to the user's handler, because tracers name their spans by it.

    On AWS's images it names the entrypoint at first, and the emulator sets it to the last word
    of its command.
    """
    monkeypatch.delitem(sys.modules, "entry_app", raising=False)
    environ = {
        "_HANDLER": ours,
        "WATCHDOG_LAMBDA_HANDLER": "entry_app.handler",
    }

    entrypoint.load(environ)

    assert environ["_HANDLER"] == "entry_app.handler"


def test_disabled_entrypoint_is_the_handler_itself(entrypoint: Any) -> None:
    """With DISABLED=1 the entrypoint's handler is the user's own function."""
    environ = {"WATCHDOG_LAMBDA_HANDLER": "entry_app.handler", "WATCHDOG_LAMBDA_DISABLED": "1"}

    assert entrypoint.load(environ) is sys.modules["entry_app"].handler


def test_task_root_is_importable(
    entrypoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task root is on the module path once, as with AWS's own bootstrap."""
    task = tmp_path / "task"
    task.mkdir()
    (task / "rooted_app.py").write_text(APP)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))

    for environ in {}, {"LAMBDA_TASK_ROOT": ""}:
        entrypoint.load({"WATCHDOG_LAMBDA_HANDLER": "entry_app.handler", **environ})
    assert sys.path == before

    for _ in range(2):
        entrypoint.load(
            {"WATCHDOG_LAMBDA_HANDLER": "rooted_app.handler", "LAMBDA_TASK_ROOT": str(task)}
        )
    assert sys.path == [str(task), *before]
    sys.modules.pop("rooted_app")


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "watchdog_lambda", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "AWS_LAMBDA_RUNTIME_API is not set"),
        (["app.handler"], "aws-lambda-rie python -m watchdog_lambda app.handler"),
        (["app.handler", "other.handler"], "one handler at most, not 2"),
        (["--verbose"], "no such option: --verbose"),
    ],
)
def test_wrong_call_gives_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    """A wrong call of the command gives a message on standard error and exit code 2.

    There is no traceback.
    """
    done = command(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_shows_dockerfile_line_and_documentation() -> None:
    """The help shows the line for a Dockerfile, and where the settings are documented."""
    done = command("--help")

    assert done.returncode == 0
    assert 'ENTRYPOINT ["python", "-m", "watchdog_lambda"]' in done.stdout
    assert "WATCHDOG_LAMBDA_HANDLER" in done.stdout


# ---- handing over to the runtime ---------------------------------------------------------------


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Install a runtime interface client that runs nothing, in place of AWS's."""
    client, module = types.ModuleType("awslambdaric"), types.ModuleType("awslambdaric.__main__")
    client.__path__ = []
    monkeypatch.setitem(sys.modules, "awslambdaric", client)
    monkeypatch.setitem(sys.modules, "awslambdaric.__main__", module)
    monkeypatch.setattr(_command, "handler", None)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    return module


def test_runtime_is_started_with_the_entrypoint(runtime: types.ModuleType) -> None:
    """The runtime is started with the entrypoint, which loads the handler that was named."""
    given: list[list[str]] = []
    runtime.__dict__["main"] = given.append

    assert main(["app.handler"]) == 0

    assert [arguments[1:] for arguments in given] == [["watchdog_lambda.entrypoint.handler"]]
    assert _command.handler == "app.handler"


def test_option_in_place_of_handler_is_refused(
    runtime: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option in place of the handler is refused, and nothing is run."""
    runtime.__dict__["main"] = None

    assert main(["--verbose"]) == 2
    assert "no such option: --verbose" in capsys.readouterr().err


def test_bad_setting_is_reported_without_a_traceback(
    runtime: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad setting is reported like a wrong call, without a traceback."""

    def fail(_arguments: list[str]) -> None:
        raise ConfigurationError("GRACE_PERIOD='2s' is not a number")

    runtime.__dict__["main"] = fail

    assert main(["app.handler"]) == 2
    assert capsys.readouterr().err == "watchdog_lambda: GRACE_PERIOD='2s' is not a number\n"


def test_missing_runtime_names_the_extra_to_install(
    runtime: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the runtime is missing, the message says which extra to install."""
    monkeypatch.delitem(sys.modules, runtime.__name__)
    monkeypatch.setitem(sys.modules, "awslambdaric", None)

    assert main(["app.handler"]) == 2
    assert "pip install 'watchdog-lambda[runtime]'" in capsys.readouterr().err


def test_missing_dependency_of_runtime_is_not_a_missing_runtime(
    runtime: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A module that the runtime itself lacks is not reported as a missing runtime.

    Another package must be installed then.
    """
    (tmp_path / "__main__.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.delitem(sys.modules, runtime.__name__)
    monkeypatch.setattr(sys.modules["awslambdaric"], "__path__", [str(tmp_path)])

    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        main(["app.handler"])
