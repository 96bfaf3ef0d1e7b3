"""What waits for this very process, or for nothing."""

from __future__ import annotations

import fcntl
import os
import queue
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from . import At, making, plain

_NEVER = threading.Event()


def _locked() -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire()


def _condition() -> None:
    with (condition := threading.Condition()):
        condition.wait(60)


def _pipe() -> None:
    read, write = os.pipe()
    try:
        os.read(read, 1)
    finally:
        os.close(read)
        os.close(write)


def _joined() -> None:
    thread = threading.Thread(target=time.sleep, args=(10,), daemon=True)
    thread.start()
    thread.join()


plain("time.sleep", lambda: time.sleep(60))
plain("threading.Event", lambda: threading.Event().wait(60))
plain("threading.Lock", _locked)
plain("threading.Condition", _condition)
plain("queue.Queue", lambda: queue.Queue[int]().get())
plain("a pipe", _pipe)
plain("Thread.join", _joined)
plain("a future that nobody fulfils", lambda: Future[int]().result(60))
plain("concurrent.futures.wait", lambda: wait([Future[int]()], 60))


@making("with ThreadPoolExecutor")
def _(_library: Any, _at: At) -> Any:
    def ask(n: int) -> int:
        with ThreadPoolExecutor(2) as pool:
            return pool.submit(int, n).result()

    def hang() -> None:
        with ThreadPoolExecutor(2) as pool:
            pool.submit(time.sleep, 10)

    return ask, hang


@making("a file's lock")
def _(_library: Any, _at: At) -> Any:
    name = Path(tempfile.mkdtemp(), "lock")
    holding = name.open("w")
    fcntl.flock(holding, fcntl.LOCK_EX)

    def hang() -> str:
        with name.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        return holding.name  # which holds it as long as this function is there

    return int, hang
