"""Handlers that wait for child processes, in each way that the standard library offers."""

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
    """Return how many threads the process has, including those of C code."""
    return len([*Path("/proc/self/task").iterdir()])


def work(event: Event) -> dict[str, Any]:
    """Take as long as the event says, and write down what was observed meanwhile."""
    seen: dict[str, Any] = {"threads": threads(), "error": None}
    try:
        time.sleep(event["seconds"])
    except BaseException as error:
        seen["error"] = repr(error)
    # The file is written at once and whole, because a test waits for it.
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
    """Wait in a ``with`` block, which ends the workers with the handler."""
    with multiprocessing.get_context(event["method"]).Pool(1) as workers:
        return workers.apply(work, (event,))


def executor(event: Event) -> object:
    """Wait without a block, so that nothing ends the workers."""
    context = multiprocessing.get_context(event["method"])
    workers = ProcessPoolExecutor(1, context)
    try:
        return workers.submit(work, event).result()
    finally:
        workers.shutdown(wait=False)


HOW = {"fork": fork, "process": process, "pool": pool, "executor": executor}
