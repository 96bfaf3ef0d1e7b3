"""Tests of bootstrap/exec-wrapper in a real shell, with a stub for the runtime."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .test_entrypoint_script import SHELLS

SCRIPT = Path(__file__).parents[2] / "bootstrap" / "exec-wrapper"
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.defpath}")
ENTRYPOINT = "watchdog_lambda.entrypoint.handler"
AWS = ("python3", "/var/runtime/bootstrap.py")
CLIENT = ("python3", "-m", "awslambdaric")

STUB = """#!/bin/sh
set -- "${WATCHDOG_LAMBDA_HANDLER-unset}" "${PYTHONPATH-unset}" "$@"
printf '%s\\n' "$$" "${_HANDLER-unset}" "$@"
"""
# This is a summary of what vendors' wrappers do: /opt/otel-instrument, /opt/datadog_wrapper.
VENDOR = """#!/bin/sh
export VENDOR_HANDLER="$_HANDLER" _HANDLER=vendor.handler
exec "$@"
"""


@dataclass(frozen=True)
class Started:
    """The arguments and environment of the runtime, if it was started."""

    status: int
    errors: str
    handler: str
    """_HANDLER."""
    wrapped: str
    """WATCHDOG_LAMBDA_HANDLER."""
    python_path: str
    arguments: list[str]
    is_same_process: bool


@dataclass(frozen=True)
class Sandbox:
    """A folder that stands for /opt, with the script, and a stub for Python on PATH."""

    opt: Path
    shell: tuple[str, ...]

    def write(self, name: str, text: str) -> Path:
        """Write an executable file into /opt."""
        file = self.opt / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)
        return file

    def run(self, *command: str, wrapper: str = "exec-wrapper", **environment: str) -> Started:
        """Start a command through the script, or through another one that starts the script."""
        process = subprocess.Popen(
            [*self.shell, str(self.opt / wrapper), *command],
            env={"PATH": f"{self.opt / 'bin'}:/usr/bin:/bin", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        output, errors = process.communicate(timeout=10)
        pid, handler, wrapped, path, *arguments = output.splitlines() or [""] * 4
        return Started(
            status=process.returncode,
            errors=errors,
            handler=handler,
            wrapped=wrapped,
            python_path=path,
            arguments=arguments,
            is_same_process=pid == str(process.pid),
        )


@pytest.fixture(params=[shell for shell in SHELLS if shutil.which(shell[0])], ids="-".join)
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    """Provide a sandbox, once for each shell that this machine has."""
    program, *options = request.param
    sandbox = Sandbox(tmp_path / "my opt", (shutil.which(program) or program, *options))
    sandbox.write("bin/python3", STUB)
    sandbox.write("exec-wrapper", SCRIPT.read_text(encoding="utf-8"))
    return sandbox


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck")
@pytest.mark.parametrize("script", sorted(SCRIPT.parent.iterdir()), ids=lambda path: path.name)
def test_shellcheck_reports_nothing(script: Path) -> None:
    """shellcheck reports nothing for either script, except for two matters of taste.

    ``${name}`` where ``$name`` is the same (SC2250), and a default for every case (SC2249).
    """
    command = [str(SHELLCHECK), "--enable=all", "--exclude=SC2249,SC2250", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.stdout + done.stderr == ""


def test_aws_bootstrap_gets_our_handler(sandbox: Sandbox) -> None:
    """AWS's bootstrap is started unchanged with our handler in _HANDLER.

    The user's name is kept.
    """
    started = sandbox.run(*AWS, _HANDLER="app.handler")

    assert started.handler == ENTRYPOINT
    assert started.wrapped == "app.handler"
    assert started.python_path == "unset"
    assert started.arguments == [*AWS[1:]]
    assert started.is_same_process


def test_runtime_client_gets_our_handler_as_argument(sandbox: Sandbox) -> None:
    """The runtime client gets our handler as its argument, because it does not read _HANDLER."""
    started = sandbox.run(*CLIENT, "app.handler")

    assert started.arguments == ["-m", "awslambdaric", ENTRYPOINT]
    assert started.wrapped == "app.handler"
    assert started.handler == ENTRYPOINT
    assert started.is_same_process


def test_runtime_client_without_argument_gets_our_handler(sandbox: Sandbox) -> None:
    """A runtime client without an argument gets our handler.

    The user's handler is the platform's variable then.
    """
    started = sandbox.run(*CLIENT, _HANDLER="app.handler")

    assert started.arguments == ["-m", "awslambdaric", ENTRYPOINT]
    assert started.wrapped == "app.handler"


@pytest.mark.parametrize(
    ("command", "environment", "wrapped"),
    [
        (AWS, {"WATCHDOG_LAMBDA_HANDLER": "own.h", "_HANDLER": "aws.h"}, "own.h"),
        (AWS, {"WATCHDOG_LAMBDA_HANDLER": "", "_HANDLER": "aws.h"}, "aws.h"),
        (AWS, {"WATCHDOG_LAMBDA_HANDLER": " \t", "_HANDLER": "aws.h"}, "aws.h"),
        ((*CLIENT, "cmd.h"), {"WATCHDOG_LAMBDA_HANDLER": "own.h", "_HANDLER": "aws.h"}, "own.h"),
        ((*CLIENT, "cmd.h"), {"_HANDLER": "aws.h"}, "cmd.h"),
        # bootstrap/entrypoint.sh on AWS's base does this, if the wrapper is set as well.
        (AWS, {"WATCHDOG_LAMBDA_HANDLER": "own.h", "_HANDLER": ENTRYPOINT}, "own.h"),
    ],
)
def test_handler_precedence(
    sandbox: Sandbox, command: tuple[str, ...], environment: dict[str, str], wrapped: str
) -> None:
    """The package's own variable precedes the command's argument.

    That precedes the platform's variable.
    """
    started = sandbox.run(*command, **environment)

    assert started.wrapped == wrapped
    assert started.handler == ENTRYPOINT


def test_command_words_are_not_split_or_expanded(sandbox: Sandbox) -> None:
    """Words of the command are neither expanded nor split.

    A command that only resembles the client's is not changed.
    """
    words = ["a b", "*", "", "$HOME", "awslambdaric", "-m", "other", "app.handler"]

    started = sandbox.run("python3", *words, _HANDLER="my app/*.handler")

    assert started.arguments == words
    assert started.wrapped == "my app/*.handler"


ODD = [
    "two\nlines",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "$(touch pwned)`touch pwned`",
    "back\\slash\\n%s",
    "\x1b[31mred",
    "\udcff\udcfe",  # bytes that are not UTF-8
    "-n",
    "*",
]


@pytest.mark.parametrize("odd", ODD)
def test_environment_values_are_not_interpreted(sandbox: Sandbox, odd: str) -> None:
    """Nothing in the environment is run, split, expanded or taken for an option of the shell's."""
    sandbox.write("python/watchdog_lambda/__init__.py", "")
    told = '#!/bin/sh\nprintf \'%s\\0\' "$_HANDLER" "$WATCHDOG_LAMBDA_HANDLER" "$PYTHONPATH" "$@"\n'
    sandbox.write("bin/python3", told)

    done = subprocess.run(
        [
            *sandbox.shell,
            str(sandbox.opt / "exec-wrapper"),
            "python3",
            odd,
            "-m",
            "awslambdaric",
            odd,
        ],
        env={
            "PATH": f"{sandbox.opt / 'bin'}:/usr/bin:/bin",
            "_HANDLER": "app.h",
            "PYTHONPATH": odd,
        },
        cwd=sandbox.opt,
        capture_output=True,
        check=True,
        timeout=10,
    )

    told_of = [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]]
    path = f"{odd}:{sandbox.opt}/python"
    assert told_of == [ENTRYPOINT, odd, path, odd, "-m", "awslambdaric", ENTRYPOINT]
    assert not (sandbox.opt / "pwned").exists()


def test_entrypoint_named_as_handler_is_passed_on(sandbox: Sandbox) -> None:
    """If _HANDLER names the entrypoint it is passed on, so that the caller gets Python's message.

    A variable that names ourselves would hide the cause.
    """
    started = sandbox.run(*AWS, _HANDLER=ENTRYPOINT)

    assert started.wrapped == "unset"
    assert started.handler == ENTRYPOINT


@pytest.mark.parametrize("value", ["1", "true", "TRUE"])
def test_disabled_wrapper_starts_the_user_handler(sandbox: Sandbox, value: str) -> None:
    """With DISABLED the user's handler is started as without the wrapper.

    Nothing of the package is needed.
    """
    sandbox.write("python/watchdog_lambda/__init__.py", "")
    switched_off = {"WATCHDOG_LAMBDA_DISABLED": value, "PYTHONPATH": "/other"}

    started = sandbox.run(*AWS, _HANDLER="app.handler", **switched_off)
    client = sandbox.run(*CLIENT, "app.handler", **switched_off)
    chosen = sandbox.run(
        *AWS, _HANDLER="app.handler", WATCHDOG_LAMBDA_HANDLER="datadog.handler", **switched_off
    )

    assert (started.handler, started.wrapped, started.python_path) == (
        "app.handler",
        "unset",
        "/other",
    )
    assert client.arguments == ["-m", "awslambdaric", "app.handler"]
    assert chosen.handler == "datadog.handler"


def test_falsy_or_invalid_disabled_values_keep_the_wrapper(sandbox: Sandbox) -> None:
    """Values of DISABLED that Python takes for off, or refuses, do not disable the wrapper."""
    for value in ("0", "false", "", "yes"):
        started = sandbox.run(*AWS, _HANDLER="app.handler", WATCHDOG_LAMBDA_DISABLED=value)

        assert started.handler == ENTRYPOINT


def test_layer_package_is_added_to_python_path(sandbox: Sandbox) -> None:
    """The package in the layer is found where the runtime would not look.

    AWS's bootstrap leaves layers out if PYTHONPATH is set, and the client alone always does.
    """
    sandbox.write("python/watchdog_lambda/__init__.py", "")
    packages = f"{sandbox.opt}/python"

    assert sandbox.run(*AWS, _HANDLER="app.h").python_path == "unset"
    assert sandbox.run(*AWS, _HANDLER="app.h", PYTHONPATH="").python_path == packages
    assert sandbox.run(*AWS, _HANDLER="app.h", PYTHONPATH="/a").python_path == f"/a:{packages}"
    there = f"{packages}:/a"
    assert sandbox.run(*AWS, _HANDLER="app.h", PYTHONPATH=there).python_path == there
    assert sandbox.run(*CLIENT, "app.h").python_path == packages


def test_package_outside_layer_leaves_python_path_unchanged(sandbox: Sandbox) -> None:
    """If the package is not next to the script, the path is not changed.

    The package is installed in the image.
    """
    assert sandbox.run(*CLIENT, "app.handler").python_path == "unset"
    assert sandbox.run(*CLIENT, "app.handler", PYTHONPATH="/a").python_path == "/a"


@pytest.mark.parametrize(
    ("order", "handler", "wrapped"),
    [
        (("vendor", "exec-wrapper"), ENTRYPOINT, "vendor.handler"),
        (("exec-wrapper", "vendor"), "vendor.handler", "app.handler"),
        # A second exec-wrapper does no harm.
        (("exec-wrapper", "exec-wrapper"), ENTRYPOINT, "app.handler"),
    ],
    ids=["around the vendor", "inside the vendor", "twice"],
)
def test_wrapper_chains_with_another_wrapper(
    sandbox: Sandbox, order: tuple[str, str], handler: str, wrapped: str
) -> None:
    """The wrapper can be chained with another one in either order.

    A script of two lines does it, and adds no process.
    """
    sandbox.write("vendor", VENDOR)
    first, second = (f'"{sandbox.opt}/{name}"' for name in order)
    sandbox.write("both", f'#!/bin/sh\nexec {first} {second} "$@"\n')

    started = sandbox.run(*AWS, wrapper="both", _HANDLER="app.handler")

    assert (started.handler, started.wrapped) == (handler, wrapped)
    assert started.arguments == [*AWS[1:]]
    assert started.is_same_process


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (AWS, "no handler: neither WATCHDOG_LAMBDA_HANDLER nor _HANDLER is set"),
        (CLIENT, "no handler"),
        ((), "exec-wrapper is given no command"),
    ],
)
def test_missing_program_is_refused(sandbox: Sandbox, command: tuple[str, ...], told: str) -> None:
    """If a program is missing, the script exits with 2 and a message that names it.

    Nothing is started.
    """
    started = sandbox.run(*command)

    assert started.status == 2
    assert started.errors.startswith("watchdog_lambda: ")
    assert told in started.errors
    assert started.handler == ""
