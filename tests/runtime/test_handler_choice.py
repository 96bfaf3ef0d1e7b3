"""Tests of the handler's choice, and of the errors that an unusable handler causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .harness import WAYS, Way, bare, call, running, wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.runtime.emulator import Response

OK = {"do": "ok"}
MODULES = {
    "simple.py": "def handler(event, context):\n    return 'simple'\n",
    "other.py": "def handler(event, context):\n    return 'other'\n",
    "package/__init__.py": "",
    "package/inner.py": "def handler(event, context):\n    return 'inner'\n",
    "broken.py": "def handler(event, context)\n    return 'never'\n",
    "failing.py": "raise ValueError('no such table')\n",
    "needing.py": "import no_such_library\n",
    "exiting.py": "raise SystemExit(3)\n",
}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Create a folder with usable and unusable handlers."""
    for name, text in MODULES.items():
        file = tmp_path / "code" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "code"


@pytest.mark.parametrize(
    "handler",
    [
        "no_such_module.handler",
        "simple.no_such_function",
        "package.handler",
        "package/inner.handlr",
        "nodothere",
        "sys.exit",
        "broken.handler",
        "needing.handler",
        "failing.handler",
        "exiting.handler",
    ],
)
def test_unusable_handler_fails_as_without_the_package(code: Path, handler: str) -> None:
    """The error for an unusable handler has the runtime's own type and message.

    Alarms on them continue to work.
    """
    with running(bare(handler, cwd=code)) as function:
        expected = verdict(function.invoke(OK))

    for way in WAYS:
        with running(wrapped(handler, way=way, cwd=code)) as function:
            assert (way, verdict(function.invoke(OK))) == (way, expected)


def verdict(response: Response) -> tuple[int, str, str]:
    """Return the parts of an error that must be the same: the status, the type and the message."""
    if not response.body:  # a process that ends in its init without any output sends no answer
        return response.status, "", ""
    error: Any = response.json()
    return response.status, error["errorType"], error["errorMessage"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        ("simple.handler", "simple"),
        ("package.inner.handler", "inner"),
        ("package/inner.handler", "inner"),
    ],
)
def test_handler_is_found_in_the_working_directory(
    code: Path, way: Way, handler: str, answer: str
) -> None:
    """Modules and packages in the working directory are found, in both of Lambda's notations."""
    with running(wrapped(handler, way=way, cwd=code)) as function:
        assert function.invoke(OK).json() == answer


def test_handler_is_found_in_the_task_root(code: Path, tmp_path: Path) -> None:
    """A handler in LAMBDA_TASK_ROOT is found whatever the working directory is.

    AWS's images have the code there.
    """
    environment = {"LAMBDA_TASK_ROOT": str(code)}
    with running(wrapped("simple.handler", cwd=tmp_path, environment=environment)) as function:
        assert function.invoke(OK).json() == "simple"


@pytest.mark.parametrize(
    ("command", "environment", "answer"),
    [
        ("other.handler", {"WATCHDOG_LAMBDA_HANDLER": "simple.handler"}, "simple"),
        ("other.handler", {"_HANDLER": "simple.handler"}, "other"),
        ("", {"_HANDLER": "simple.handler"}, "simple"),
        ("", {"_HANDLER": "other.handler", "WATCHDOG_LAMBDA_HANDLER": "simple.handler"}, "simple"),
    ],
)
def test_handler_precedence(
    code: Path, command: str, environment: Mapping[str, str], answer: str
) -> None:
    """The setting takes precedence over the command, and the command over Lambda's own variable."""
    with running(wrapped(command, cwd=code, environment=environment)) as function:
        assert function.invoke(OK).json() == answer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("handler", ["watchdog_lambda.entrypoint.handler", "watchdog_lambda.watch"])
def test_handler_that_names_the_package_is_refused(code: Path, way: Way, handler: str) -> None:
    """A handler setting that names the package itself is an error at the start.

    It would call itself endlessly.
    """
    with running(wrapped(handler, way=way, cwd=code)) as function:
        response = function.invoke(OK)

        assert "ConfigurationError" in response.body + function.log_text
        assert handler in response.body + function.log_text
        assert response.seconds < 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("GRACE_PERIOD", "2s", "3.0"),
        ("GRACE_PERIOD", "-1", "3.0"),
        ("HOOK_BUDGET", "nan", "1.0"),
        ("LAST_CALL", "inf", "0.5"),
        ("INTERRUPT", "sometimes", "timeout-error"),
        ("LAST_RESORT", "panic", "report"),
        ("WAKE_SIGNAL", "SIGNOPE", "auto"),
        ("DISABLED", "maybe", "1"),
    ],
)
def test_bad_setting_is_named_with_its_value_and_a_remedy(
    code: Path, way: Way, variable: str, value: str, remedy: str
) -> None:
    """The error for an invalid setting names the variable, its value, and a valid value."""
    environment = {f"WATCHDOG_LAMBDA_{variable}": value}
    function = wrapped("simple.handler", way=way, cwd=code, environment=environment)
    with running(function):
        response = function.invoke(OK)

        told = [
            line
            for line in [response.body, *(line.text for line in function.lines)]
            if "ConfigurationError" in line and f"WATCHDOG_LAMBDA_{variable}" in line
        ]
        assert told
        assert f"'{value}'" in told[0]
        assert remedy in told[0]


def test_misspelt_setting_gives_warning(code: Path) -> None:
    """An unknown variable with the prefix is taken for a typing mistake, and logged once."""
    environment = {"WATCHDOG_LAMBDA_GRACE": "2"}
    with running(wrapped("simple.handler", cwd=code, environment=environment)) as function:
        first, second = call(function, OK), call(function, OK)

        assert first.answer == second.answer == "simple"
        assert sum("WATCHDOG_LAMBDA_GRACE" in line.text for line in function.lines) == 1


def test_runtime_module_is_where_sentry_patches_it(tmp_path: Path) -> None:
    """The runtime has the name under which Sentry patches it.

    Sentry disables itself if it does not find it there.
    """
    (tmp_path / "patching.py").write_text(
        "import sys\n\ndef handler(event, context):\n"
        "    runtime = sys.modules['__main__'].awslambdaricmain.bootstrap\n"
        "    return [runtime.__name__, runtime is sys.modules['awslambdaric.bootstrap']]\n",
        encoding="utf-8",
    )

    with running(wrapped("patching.handler", cwd=tmp_path)) as function:
        assert call(function, {}).answer == ["awslambdaric.bootstrap", True]
