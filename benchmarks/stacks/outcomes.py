"""Running cases, each in a process of its own, and what came of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = os.environ.get("STACKS_PYTHON")
"""The interpreter of the environment with the clients; `dev.py stacks` says which."""

KILLED_AFTER: Final = 10.0
"""Seconds, with the import of a large library and a limit of three."""


class Outcome(NamedTuple):
    """What came of one call."""

    in_time: bool
    late_ms: int
    how: str
    requests: int | None
    next: bool


def run(name: str, way: str, port: int) -> Outcome | None:
    """Run a case; None if it had to be killed.

    Raises:
        RuntimeError: it could not be run; with what it has said.
    """
    command = [str(PYTHON), "-W", "ignore", "-m", "benchmarks.stacks.child", name, way, str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            out, err = child.communicate(timeout=KILLED_AFTER)
        except subprocess.TimeoutExpired:
            child.kill()
            return None
    for line in out.splitlines():
        if line.startswith('{"stacks"'):
            return Outcome(**json.loads(line)["stacks"])
    raise RuntimeError(f"{name}, {way}: {err[-2000:]}")
