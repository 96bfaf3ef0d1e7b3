"""Tests of the choice of an emulator."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from watchdog_lambda.cli import emulator_path
from watchdog_lambda.cli.function import CannotRun
from watchdog_lambda.cli.invoke import host_for


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate a machine whose PATH has one empty folder, and whose variables name no emulator."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(emulator_path.VARIABLE, raising=False)
    return folder


no_system_emulator = pytest.mark.skipif(
    Path("/usr/local/bin/aws-lambda-rie").exists(),
    reason="an emulator is installed in the usual place",
)


@no_system_emulator
def test_builtin_host_is_used_without_an_emulator() -> None:
    """Without an emulator the built-in one is used, without a message."""
    assert host_for(None, 3.0) == (None, "")
    assert host_for(None, 0.5) == (None, "")


def test_emulator_on_path_is_used(bare_machine: Path) -> None:
    """An emulator on PATH is used.

    It is not used for fractions of seconds, which is reported, or if none is wanted.
    """
    found = executable(bare_machine / "aws-lambda-rie")

    assert host_for(None, 3.0) == (found, "")
    assert host_for(None, 2.5) == (None, "the emulator takes whole seconds")
    assert host_for("none", 3.0) == (None, "")


@no_system_emulator
def test_emulator_of_aws_sam_cli_is_used(
    tmp_path: Path, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator of an AWS SAM CLI is used.

    It is in the environment to which ``sam`` on PATH leads, for this architecture.
    """
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    sam = tmp_path / "venvs" / "sam"
    executable(sam / "bin" / "sam")
    (bare_machine / "sam").symlink_to(sam / "bin" / "sam")
    assert emulator_path.find() is None
    rapid = sam / "lib" / "python3.12" / "site-packages" / "samcli" / "local" / "rapid"
    executable(rapid / "aws-lambda-rie-arm64")
    assert emulator_path.find() is None

    found = executable(rapid / "aws-lambda-rie-x86_64")

    assert emulator_path.find() == found


def test_named_emulator_takes_precedence(
    tmp_path: Path, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option's emulator precedes the variable's, and that one precedes one that is found."""
    executable(bare_machine / "aws-lambda-rie")
    variable, option = executable(tmp_path / "variable"), executable(tmp_path / "option")
    monkeypatch.setenv(emulator_path.VARIABLE, variable)

    assert host_for(None, 3.0) == (variable, "")
    assert host_for(option, 3.0) == (option, "")
    assert host_for("none", 3.0) == (None, "")


def test_unusable_named_emulator_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named emulator that cannot be used is an error that says where the name came from.

    No other one is used instead.
    """
    with pytest.raises(CannotRun, match=r"--emulator=/no/where: not an executable"):
        host_for("/no/where", 3.0)
    with pytest.raises(CannotRun, match=r"takes whole seconds; use for example --timeout 3"):
        host_for(executable(tmp_path / "rie"), 2.5)
    monkeypatch.setenv(emulator_path.VARIABLE, str(tmp_path))
    with pytest.raises(CannotRun, match=rf"{emulator_path.VARIABLE}={tmp_path}: not an executable"):
        host_for(None, 3.0)
