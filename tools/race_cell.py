"""The function of :mod:`tools.race`: the real runtime under a supervisor."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

_usleep_with_gil = ctypes.PyDLL(None).usleep
_usleep = ctypes.CDLL(None).usleep
_calls = 0


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """End at the instant that `event` says, in the way that it says."""
    del context
    global _calls  # noqa: PLW0603 - shows whether this is the same process
    _calls += 1
    until: float = event["until"]
    microseconds = max(0, int((until - time.monotonic()) * 1e6))
    do = event["do"]
    if do == "spin":
        while time.monotonic() < until:
            pass
    elif do == "free":
        _usleep(microseconds)
    else:
        _usleep_with_gil(microseconds)
    if do == "exit":
        os._exit(7)
    if do == "segfault":
        ctypes.string_at(0)
    answer: dict[str, Any] = {"number": event["number"], "calls": _calls}
    if event.get("large"):
        answer["filler"] = "x" * 300_000
    return answer
