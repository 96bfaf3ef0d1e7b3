"""Where it is measured: the checkout, the machine, and what a measured process is told of both."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """For a measured process: this one's without settings of ours or AWS's, and this checkout."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "WATCHDOG_"))}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        # Two threads that wait for each other's half would tell of the machine's load.
        "OPENBLAS_NUM_THREADS": "1",
        **more,
    }


def machine() -> str:
    """The machine in one line, without anything that names it."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def processor() -> str:
    """What the processor calls itself; empty where it cannot be told."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    return found[1] if found else ""
