"""The function of :mod:`tools.workers`, which does what its event says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from watchdog_lambda import shield

IN_TIME, EITHER = "end in time", "end at the edge"


def _wait(_left: float) -> None:
    time.sleep(60)


def _spin(_left: float) -> None:
    while True:
        pass


def _swallow(_left: float) -> None:
    while True:
        try:
            while True:
                time.sleep(0.001)
        except Exception:  # noqa: BLE001, S112 - as bad as what is found in the wild
            continue


def _clean_up(_left: float) -> None:
    try:
        time.sleep(60)
    finally:
        time.sleep(0.002)


def _protect(left: float) -> None:
    with shield():
        time.sleep(left * 0.8)
    time.sleep(60)


DO: Final[dict[str, Callable[[float], object]]] = {
    "sleep": _wait,
    "answer": _wait,
    "fail": _wait,
    "spin": _spin,
    "swallow": _swallow,
    "clean up": _clean_up,
    "shield": _protect,
    "lock": lambda _left: threading.Event().wait(60),
    "loop": lambda _left: asyncio.run(asyncio.sleep(60)),
    "child": lambda _left: subprocess.run(["sleep", "60"], check=False),
    IN_TIME: lambda _left: time.sleep(0.001),
    EITHER: lambda left: time.sleep(left * 0.75),
}
TIMES_OUT: Final = tuple(name for name in DO if name not in {IN_TIME, EITHER})


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    do, left = event["do"], context.get_remaining_time_in_millis() / 1000
    said = {"number": event["number"], "pid": os.getpid(), "id": context.aws_request_id}
    if left <= 0:
        return {**said, "late": True}  # it arrived after its deadline, so it is not watched
    try:
        DO[do](left)
    except TimeoutError:
        if do == "answer":
            return {**said, "answered": True}
        if do == "fail":
            raise KeyError(event["number"])  # noqa: B904 - as it is found in the wild
        raise
    return said
