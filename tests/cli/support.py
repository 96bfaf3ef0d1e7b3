"""Runs the ``watchdog-lambda`` command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.emulator import fetch_emulator

if TYPE_CHECKING:
    from collections.abc import Mapping

HANDLERS = Path(__file__).parent / "handlers"
COMMAND = [str(Path(sys.executable).with_name("watchdog-lambda"))]
BOUND = 60.0
"""The number of seconds after which a command counts as failed."""


def environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, without variables that affect the command."""
    steering = ("WATCHDOG_LAMBDA_", "AWS_LAMBDA_", "NO_COLOR", "FORCE_COLOR")
    return {k: v for k, v in os.environ.items() if not k.startswith(steering)} | dict(more or {})


def start(*arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=HANDLERS,
        env=environ(more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate(timeout=BOUND)
        raise AssertionError(f"did not end in {BOUND} s\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return finish(start(*arguments, **more))


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON of a command, and check its exit status against that in the JSON."""
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit_status"] == done.returncode, done.stderr
    return found


def emulator() -> str:
    return str(fetch_emulator())


def is_running(pid: int) -> bool:
    """Return whether there is such a process, other than a zombie."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
