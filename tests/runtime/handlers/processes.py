"""Handlers that wait for work in other processes, in every way that the standard library offers."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

Event = dict[str, Any]


def threads() -> int:
    """How many the process has, those of C included."""
    return len([*Path("/proc/self/task").iterdir()])


def work(event: Event) -> dict[str, Any]:
    """Take as long as it takes, and leave behind what was to be seen meanwhile."""
    seen: dict[str, Any] = {"threads": threads(), "error": None}
    try:
        time.sleep(event["seconds"])
    except BaseException as error:
        seen["error"] = repr(error)
    # Written at once and whole, because a test waits for it.
    file = Path(event["file"])
    file.with_suffix(".part").write_text(json.dumps(seen), encoding="utf-8")
    file.with_suffix(".part").rename(file)
    return seen


def handler(event: Event, context: object) -> dict[str, Any]:
    """Have the work done by another process, and wait for it."""
    if "how" not in event:
        return {"pid": os.getpid(), "threads": threads()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = HOW[event["how"]](event)
    return {"result": result, "warnings": [str(warning.message) for warning in caught]}


def fork(event: Event) -> object:
    child = os.fork()
    if not child:
        work(event)
        os._exit(0)
    os.waitpid(child, 0)
    return None


def process(event: Event) -> object:
    child = multiprocessing.get_context(event["method"]).Process(target=work, args=(event,))
    child.start()
    child.join()
    return None


def pool(event: Event) -> object:
    """End the workers with the handler, as ``with`` does."""
    with multiprocessing.get_context(event["method"]).Pool(1) as workers:
        return workers.apply(work, (event,))


def executor(event: Event) -> object:
    """Leave the workers to themselves."""
    context = multiprocessing.get_context(event["method"])
    workers = ProcessPoolExecutor(1, context)
    try:
        return workers.submit(work, event).result()
    finally:
        workers.shutdown(wait=False)


HOW = {"fork": fork, "process": process, "pool": pool, "executor": executor}
