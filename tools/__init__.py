"""What the project's own tests and commands need; not part of the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """For a process of this checkout: this one's, without settings of ours or AWS's."""
    foreign = ("AWS_", "WATCHDOG_", "_HANDLER")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        "PYTHONPATH": str(ROOT),
        # Two threads that wait for each other's half would tell of the machine's load.
        "OPENBLAS_NUM_THREADS": "1",
        **more,
    }


def resident(pid: int | str = "self") -> int:
    """The bytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> Iterator[int]:
    """A process and those that it and its own have started, the first one first."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # of each of its threads
        for child in children.read_text(encoding="ascii").split():
            yield from descendants(int(child))
