"""Tests of bootstrap/entrypoint.sh in a real shell, with stubs for the programs that it starts."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bootstrap" / "entrypoint.sh"
ON_LAMBDA = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}
# These are the shells that /bin/sh is here, on Debian, on Amazon Linux, and on Alpine.
SHELLS = [("sh",), ("dash",), ("bash", "--posix"), ("busybox", "sh")]

# The stubs use only shell built-ins, because PATH has nothing but stubs.
STUB = """#!/bin/sh
printf '%s\\n' "$$" "${WATCHDOG_LAMBDA_HANDLER-unset}" "$0" "$@"
"""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run."""

    status: int
    errors: str
    command: list[str]
    """What took the script's place, with its arguments; paths as their last parts."""
    handler_variable: str
    is_same_process: bool


@dataclass(frozen=True)
class Machine:
    """A simulated image, with its programs and the script in a shell."""

    folder: Path
    shell: tuple[str, ...]

    def install(self, *names: str, folder: str = "bin") -> Path:
        """Make stubs that report how they were started, and return the last one's path."""
        for name in names:
            stub = self.folder / folder / name
            stub.parent.mkdir(exist_ok=True)
            stub.write_text(STUB, encoding="utf-8")
            stub.chmod(0o755)
        return stub

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Outcome:
        """Run the script, with only PATH and the given variables in its environment."""
        script = self.folder / "entrypoint.sh"
        text = SCRIPT.read_text(encoding="utf-8")
        for path in ("/lambda-entrypoint.sh", "/usr/local/bin/aws-lambda-rie"):
            assignment = f"={path}\n"
            assert text.count(assignment) == 1
            text = text.replace(assignment, f"={self.folder}/root/{Path(path).name}\n")
        script.write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [*self.shell, str(script), *arguments],
            env={"PATH": str(self.folder / "bin"), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        output, errors = process.communicate(timeout=10)
        pid, variable, *command = output.splitlines() or ["", ""]
        return Outcome(
            status=process.returncode,
            errors=errors,
            command=[part.replace(f"{self.folder}/", "") for part in command],
            handler_variable=variable,
            is_same_process=pid == str(process.pid),
        )


@pytest.fixture(params=[shell for shell in SHELLS if shutil.which(shell[0])], ids="-".join)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """Provide a plain image with python3, once for each shell that this machine has."""
    program, *options = request.param
    machine = Machine(tmp_path, (shutil.which(program) or program, *options))
    machine.install("python3")
    return machine


@pytest.mark.parametrize(
    ("argument", "environment", "chosen"),
    [
        ("cmd.h", {"WATCHDOG_LAMBDA_HANDLER": "own.h", "_HANDLER": "aws.h"}, "own.h"),
        ("cmd.h", {"_HANDLER": "aws.h"}, "cmd.h"),
        (None, {"WATCHDOG_LAMBDA_HANDLER": "own.h", "_HANDLER": "aws.h"}, "own.h"),
        (None, {"_HANDLER": "aws.h"}, "aws.h"),
        # A variable that is set but empty, as `docker run -e NAME=` or a template leaves it, counts
        # as unset.
        ("cmd.h", {"WATCHDOG_LAMBDA_HANDLER": "", "_HANDLER": "aws.h"}, "cmd.h"),
        ("cmd.h", {"WATCHDOG_LAMBDA_HANDLER": " \t"}, "cmd.h"),
        ("", {"_HANDLER": "aws.h"}, "aws.h"),
    ],
)
@pytest.mark.parametrize("base", ["plain", "aws"])
def test_handler_precedence(
    machine: Machine, base: str, argument: str | None, environment: dict[str, str], chosen: str
) -> None:
    """The package's own variable precedes CMD, and CMD the platform's variable."""
    if base == "aws":
        machine.install("lambda-entrypoint.sh", folder="root")
    arguments = [] if argument is None else [argument]

    outcome = machine.run(*arguments, environment=ON_LAMBDA | environment)

    assert chosen == (outcome.handler_variable if base == "aws" else outcome.command[-1])


def test_shell_is_replaced_by_runtime_on_lambda(machine: Machine) -> None:
    """On Lambda the runtime replaces the shell, and an emulator that exists is not started."""
    machine.install("aws-lambda-rie")

    outcome = machine.run("app.handler", environment=ON_LAMBDA)

    assert outcome.command == ["bin/python3", "-m", "watchdog_lambda", "app.handler"]
    assert outcome.is_same_process


def test_missing_handler_is_left_to_the_runtime_on_lambda(machine: Machine) -> None:
    """On Lambda a missing handler is left to the runtime to report.

    Python gets no empty argument.
    """
    outcome = machine.run(environment=ON_LAMBDA)

    assert outcome.command == ["bin/python3", "-m", "watchdog_lambda"]


@pytest.mark.parametrize("environment", [{}, ON_LAMBDA], ids=["docker run", "Lambda"])
def test_aws_base_runs_its_own_entrypoint(machine: Machine, environment: dict[str, str]) -> None:
    """On AWS's base AWS's own entrypoint is started, with our handler as its argument.

    It is started whether or not there is an emulator.
    """
    machine.install("lambda-entrypoint.sh", folder="root")
    machine.install("aws-lambda-rie")

    outcome = machine.run("app.handler", environment=environment)

    expected = ["root/lambda-entrypoint.sh", "watchdog_lambda.entrypoint.handler"]
    assert expected == outcome.command
    assert outcome.handler_variable == "app.handler"
    assert outcome.is_same_process


def test_aws_base_without_handler_leaves_variable_unset(machine: Machine) -> None:
    """Without a handler on Lambda the variable stays unset.

    An empty one would be reported as a bad value instead of a missing handler.
    """
    machine.install("lambda-entrypoint.sh", folder="root")

    outcome = machine.run(environment=ON_LAMBDA)

    assert outcome.handler_variable == "unset"
    assert outcome.command == ["root/lambda-entrypoint.sh", "watchdog_lambda.entrypoint.handler"]


def test_non_executable_aws_entrypoint_is_ignored(machine: Machine) -> None:
    """A file of AWS's entrypoint's name that cannot be executed is ignored."""
    machine.install("lambda-entrypoint.sh", folder="root").chmod(0o644)

    outcome = machine.run("app.handler", environment=ON_LAMBDA)

    assert outcome.command == ["bin/python3", "-m", "watchdog_lambda", "app.handler"]


@pytest.mark.parametrize("place", ["AWS_LAMBDA_RIE", "PATH", "default"])
def test_emulator_is_started_outside_lambda(machine: Machine, place: str) -> None:
    """Without Lambda the emulator is started.

    It is the named one, then one on PATH, then one in the usual place.
    """
    machine.install("aws-lambda-rie", folder="root")
    expected, environment = "root/aws-lambda-rie", {}
    if place != "default":
        machine.install("aws-lambda-rie")
        expected = "bin/aws-lambda-rie"
    if place == "AWS_LAMBDA_RIE":
        named = machine.install("rie", folder="named")
        expected, environment = "named/rie", {"AWS_LAMBDA_RIE": str(named)}

    outcome = machine.run("app.handler", environment=environment)

    assert [expected, "bin/python3", "-m", "watchdog_lambda", "app.handler"] == outcome.command
    assert outcome.is_same_process


def test_handler_name_is_not_split_or_expanded(machine: Machine) -> None:
    """The handler's name is passed on as one word, without expansion or splitting.

    Python decides what it means.
    """
    for environment in ({}, ON_LAMBDA):
        machine.install("aws-lambda-rie")

        outcome = machine.run("my app/*.handler $HOME", environment=environment)

        assert outcome.command[-1] == "my app/*.handler $HOME"


@pytest.mark.parametrize("odd", ["'; touch pwned; '", "$(touch pwned)", "a\tb\\n%s", "\x1b[31mred"])
@pytest.mark.parametrize("base", ["plain", "aws"])
def test_handler_variable_is_passed_unchanged(machine: Machine, base: str, odd: str) -> None:
    """A handler variable with any content is passed to Python unchanged. Nothing of it is run."""
    if base == "aws":
        machine.install("lambda-entrypoint.sh", folder="root")

    outcome = machine.run(environment=ON_LAMBDA | {"WATCHDOG_LAMBDA_HANDLER": odd})

    assert odd == (outcome.handler_variable if base == "aws" else outcome.command[-1])
    assert outcome.errors == ""
    assert not Path("pwned").exists()


def test_plain_python_executable_is_used(machine: Machine) -> None:
    """A Python that is called only `python` is used.

    Some virtual environments and images have no other.
    """
    machine.install("python").with_name("python3").unlink()

    outcome = machine.run("app.handler", environment=ON_LAMBDA)

    assert outcome.command == ["bin/python", "-m", "watchdog_lambda", "app.handler"]


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        ([], {}, "no handler: give one as CMD or in WATCHDOG_LAMBDA_HANDLER"),
        (["app.handler", "other.handler"], ON_LAMBDA, "CMD gives 2 arguments"),
        (["--help"], {}, "CMD gives '--help'"),
        (["--log-level"], ON_LAMBDA, "CMD gives '--log-level'"),
        # The emulator would take these options for its own.
        ([], {"WATCHDOG_LAMBDA_HANDLER": "--log-level"}, "the handler is '--log-level'"),
        ([], {"_HANDLER": "-x"}, "the handler is '-x'"),
        (["app.handler"], {}, "there is no emulator"),
        (["app.handler"], {"AWS_LAMBDA_RIE": "/no/such/rie"}, "/no/such/rie is not an executable"),
    ],
)
def test_missing_program_is_refused(
    machine: Machine, arguments: list[str], environment: dict[str, str], told: str
) -> None:
    """If a program is missing, the script exits with 2 and a message that names it.

    Nothing is started.
    """
    outcome = machine.run(*arguments, environment=environment)

    assert outcome.status == 2
    assert outcome.errors.startswith("watchdog_lambda: ")
    assert told in outcome.errors.replace("\n", " ")
    assert outcome.command == []


def test_image_without_python_is_refused(machine: Machine) -> None:
    """An image without Python is refused, with a message that shows where it was searched."""
    (machine.folder / "bin" / "python3").unlink()

    outcome = machine.run("app.handler", environment=ON_LAMBDA)

    assert outcome.status == 2
    assert f"no python3 on PATH ({machine.folder / 'bin'})" in outcome.errors
