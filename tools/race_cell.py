"""The function of ``tools/race.py``: the real runtime under a supervisor, or under a broken one.

    python tools/race_cell.py [MUTANT]

A mutant is one line of the package changed before it is imported.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent

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
"""By name: the module, what stands there, and what stands there instead."""

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

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
    match event["do"]:
        case "hold":
            _usleep_with_gil(microseconds)
        case "free":
            _usleep(microseconds)
        case "spin":
            while time.monotonic() < until:
                pass
        case "exit":
            _usleep_with_gil(microseconds)
            os._exit(7)
        case "segfault":
            _usleep_with_gil(microseconds)
            ctypes.string_at(0)
        case _:
            pass
    answer: dict[str, Any] = {"number": event["number"], "calls": _calls}
    if event.get("large"):
        answer["filler"] = "x" * 300_000
    return answer


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads one module with a line of it changed."""

    change = ("", "")

    def get_code(self, fullname: str) -> Any:
        before, after = self.change
        path = self.get_filename(fullname)
        source = Path(path).read_text(encoding="utf-8")
        if source.count(before) != 1:
            raise SystemExit(f"the mutant's line is not in {path} once: {before!r}")
        return compile(source.replace(before, after), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds that module, and leaves all others to the others."""

    def __init__(self, name: str, before: str, after: str) -> None:
        self._name = name
        path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        self._loader = _Changed(name, str(path))
        self._loader.change = before, after

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, loader=self._loader)


def main() -> int:
    """Run the runtime; it does not return."""
    sys.path.insert(0, str(ROOT))
    if len(sys.argv) > 1:
        sys.meta_path.insert(0, _Finder(*MUTANTS[sys.argv[1]]))
    from watchdog_lambda.__main__ import main as run  # noqa: PLC0415 - with the mutant's line

    return run(["race_cell.handler"])


if __name__ == "__main__":
    raise SystemExit(main())
