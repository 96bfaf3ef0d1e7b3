"""What a measured process does first, and how it is heard.

``python -m benchmarks.child MODULE ARGUMENTS`` runs the `main` of a module of these benchmarks.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Be killed when the parent process ends, because nothing else would end this one."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Channel:
    """The pipe to the measuring process. This one's standard output goes nowhere from here on."""

    def __init__(self) -> None:
        self._fd = os.dup(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)

    def tell(self, **what: Any) -> None:
        """Write one line of JSON, at once and in one piece."""
        os.write(self._fd, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    end_with_parent()
    import_module(f"benchmarks.{sys.argv[1]}").main(*sys.argv[2:])
