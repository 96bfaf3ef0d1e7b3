"""Waits for threads, locks, files and signals."""

from __future__ import annotations

import fcntl
import os
import queue
import select
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

from benchmarks.limits.registry import LONG, Block, Group, keep


def within(manager: Any, block: Callable[[Any], object]) -> None:
    """Block in a ``with``."""
    with manager as entered:
        block(entered)


# ---- threads -------------------------------------------------------------------------------------


threads = Group("Sleeps, locks, queues and threads")


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def _held_by_another() -> threading.RLock:
    lock = threading.RLock()
    owner = threading.Thread(target=lock.acquire, daemon=True)
    owner.start()
    owner.join()
    return lock


def _sleeper() -> threading.Thread:
    sleeper = threading.Thread(target=time.sleep, args=(LONG,), daemon=True)
    sleeper.start()
    return sleeper


def _full() -> queue.Queue[None]:
    full: queue.Queue[None] = queue.Queue(1)
    full.put(None)
    return full


def _wait(condition: threading.Condition) -> Block:
    return partial(within, condition, lambda _: condition.wait())


def _wait_for(condition: threading.Condition) -> Block:
    return partial(within, condition, lambda _: condition.wait_for(lambda: False, timeout=LONG))


def result_of(pool: Any) -> object:
    return pool.submit(time.sleep, LONG).result()


def map_of(pool: Any) -> object:
    return list(pool.map(time.sleep, [LONG, LONG]))


add = threads.add
add("sleep", "`time.sleep()`", lambda: partial(time.sleep, LONG))
add("lock", "`Lock.acquire()`", lambda: _held().acquire, quick=True)
add("lock-timeout", "`Lock.acquire(timeout=60)`", lambda: partial(_held().acquire, timeout=LONG))
add("with-lock", "`with lock:`", lambda: partial(within, _held(), bool))
add("rlock", "`RLock.acquire()`, held by another thread", lambda: _held_by_another().acquire)
add("condition", "`Condition.wait()`", lambda: _wait(threading.Condition()))
about = "`Condition.wait_for(..., timeout=60)`"
add("condition-timeout", about, lambda: _wait_for(threading.Condition()))
add("event", "`Event.wait()`", lambda: threading.Event().wait)
add("event-timeout", "`Event.wait(60)`", lambda: partial(threading.Event().wait, LONG))
add("semaphore", "`Semaphore.acquire()`", lambda: threading.Semaphore(0).acquire)
add("barrier", "`Barrier.wait()`", lambda: threading.Barrier(2).wait)
add("queue-get", "`queue.Queue.get()`", lambda: queue.Queue[None]().get)
add("queue-put", "`queue.Queue.put()`, full", lambda: partial(_full().put, None))
add("simple-queue-get", "`queue.SimpleQueue.get()`", lambda: queue.SimpleQueue[None]().get)
add("thread-join", "`Thread.join()`", lambda: _sleeper().join)
add("thread-join-timeout", "`Thread.join(60)`", lambda: partial(_sleeper().join, LONG))
about = "`Future.result()` of a thread pool"
add("future-result", about, lambda: partial(result_of, keep(ThreadPoolExecutor(1))))
about = "`with ThreadPoolExecutor()` around `Future.result()`"
pooled = partial(partial, within)
add("with-thread-pool", about, lambda: pooled(ThreadPoolExecutor(1), result_of), quick=True)
about = "`with ThreadPoolExecutor()` around `Executor.map()`"
add("thread-pool-map", about, lambda: pooled(ThreadPoolExecutor(2), map_of))


# ---- files ---------------------------------------------------------------------------------------


files = Group("Pipes, file locks, `select` and signals")


def _empty() -> int:
    """The reading end of a pipe that stays empty."""
    return os.pipe()[0]


def _locked() -> IO[str]:
    return keep(Path("locked").open("w"))


def _registered(poller: Any) -> Any:
    poller.register(_empty(), select.POLLIN)
    return keep(poller)


def _pause_again_and_again() -> None:
    # pause() returns after any signal that has a handler; a handler that waits, waits again.
    while True:
        signal.pause()


def _blocked() -> signal.Signals:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    return signal.SIGUSR1


add = files.add
add("read-pipe", "`os.read()` of an empty pipe", lambda: partial(os.read, _empty(), 1), quick=True)


@files.call()
def write_pipe() -> Block:
    """`os.write()` to a full pipe."""
    _, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(65536))
    except BlockingIOError:
        os.set_blocking(writer, True)
    return lambda: os.write(writer, b"x")


about = "`readline()` of a file object on a pipe"
add("read-file-object", about, lambda: keep(os.fdopen(_empty())).readline)


@files.call()
def open_fifo() -> Block:
    """`open()` of a FIFO that nobody writes to."""
    os.mkfifo("fifo")
    return Path("fifo").open


@files.call()
def flock() -> Block:
    """`fcntl.flock()`."""
    fcntl.flock(_locked(), fcntl.LOCK_EX)
    return partial(fcntl.flock, _locked(), fcntl.LOCK_EX)


@files.call()
def lockf() -> Block:
    """`fcntl.lockf()`."""
    waiter = _locked()
    locked, tell = os.pipe()
    # A record lock belongs to a process: another one must hold it.
    if os.fork() == 0:
        fcntl.lockf(waiter, fcntl.LOCK_EX)
        os.write(tell, b"x")
        signal.pause()
    os.read(locked, 1)
    return partial(fcntl.lockf, waiter, fcntl.LOCK_EX)


add("select-select", "`select.select()`", lambda: partial(select.select, [_empty()], [], []))
about = "`select.select(..., 60)`"
add("select-timeout", about, lambda: partial(select.select, [_empty()], [], [], LONG))
add("poll", "`select.poll().poll()`", lambda: _registered(select.poll()).poll)
add("epoll", "`select.epoll().poll()`", lambda: _registered(select.epoll()).poll)
about = "`selectors.DefaultSelector().select()`"
add("selector", about, lambda: _registered(selectors.DefaultSelector()).select)
add("signal-pause", "`signal.pause()`", lambda: _pause_again_and_again)
about = "`signal.sigtimedwait()`"
add("sigtimedwait", about, lambda: partial(signal.sigtimedwait, [_blocked()], LONG))
add("sigwait", "`signal.sigwait()`", lambda: partial(signal.sigwait, [_blocked()]))


@files.call()
def read_stdin() -> Block:
    """`sys.stdin.read()`."""
    os.dup2(_empty(), 0)
    return sys.stdin.read
