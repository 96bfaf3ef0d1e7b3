"""Tests of the short forms of the long runs, and that each run finds the defects that it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def command(tool: str, *options: str) -> list[str]:
    """Return the command that starts one of the tools."""
    return [sys.executable, "-m", f"tools.{tool}", *options]


def run(tool: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, and return its output; its progress is shown with the test's."""
    return subprocess.run(
        command(tool, *options),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
