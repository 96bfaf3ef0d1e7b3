"""A handler whose timeout leaves something behind, and whose answers identify its process."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import watchdog_lambda
from watchdog_lambda import after_timeout

_NEVER = threading.Event()
_served = itertools.count(1)
_driver = types.ModuleType("driver")
# The module is found where pip would have installed it.
exec(compile("def query(wait): wait(30)", "/opt/python/driver/core.py", "exec"), vars(_driver))  # noqa: S102
sys.modules["driver"] = _driver


@after_timeout
def settle(details: watchdog_lambda.TimeoutDetails) -> None:
    """Return whether the process is sound, where the test asks for that."""
    wish = os.environ.get("WISH")
    if wish == "recycle":
        details.recycle()
    elif wish == "keep":
        details.keep()


if os.environ.get("RECOVERS"):
    watchdog_lambda.recovers(os.environ["RECOVERS"])


def handler(event: dict[str, str], context: Any) -> dict[str, int] | None:
    """Do what the event says, until it is interrupted."""
    do = event.get("do")
    if do == "look":
        return {"pid": os.getpid()}
    if do == "look closely":
        return {
            "pid": os.getpid(),
            "served": next(_served),
            "children": _children(),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        }
    print(f"waits in {context.aws_request_id}", flush=True)
    if do == "child":
        subprocess.Popen(["sleep", "60"])
    if do == "thread":
        threading.Thread(target=_work, daemon=True).start()
    if do == "library":
        _driver.query(_NEVER.wait)
    _NEVER.wait(30)
    return None


def _children() -> int:
    """Return how many children run. A child that has just ended may not have been reaped yet."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return sum(") Z " not in Path(f"/proc/{pid}/stat").read_text() for pid in pids)


def _work() -> None:
    _NEVER.wait(30)
