"""The function of :mod:`tools.race`: the real runtime under a supervisor, or under a broken one.

    python -m tools.race_cell [MUTANT]

A mutant is one line of the package changed before it is imported.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any, Final

from tools import ROOT
from tools.changed import Finder

_POST: Final = "result(client, invoke_id, result_data, content_type, invocation_id)"
MUTANTS: Final = {
    "no second look": (
        "watchdog_lambda._lambda.supervisor",
        "again = self._state.look()",
        "again = seen",
    ),
    "stored after the post": (
        "watchdog_lambda._lambda.runtime_client",
        f"memory[STATE] = ANSWERING\n            return {_POST}",
        f"answer = {_POST}\n            memory[STATE] = ANSWERING\n            return answer",
    ),
}
"""By name: the module, the lines that are replaced, and what replaces them."""

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


def main(mutant: str = "") -> int:
    """Run the runtime; it does not return."""
    if mutant:
        module, before, after = MUTANTS[mutant]
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        source = path.read_text(encoding="utf-8")
        if source.count(before) != 1:
            raise SystemExit(f"the mutant's line is not in {path} once: {before!r}")
        sys.meta_path.insert(0, Finder(module, str(path), source.replace(before, after)))
    from watchdog_lambda.__main__ import main as run  # noqa: PLC0415 - with the mutant's line

    return run(["tools.race_cell.handler"])


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
