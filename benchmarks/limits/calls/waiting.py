"""Waits for threads, locks, files and processes of this machine."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import queue
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from benchmarks.limits.registry import LONG, Group, keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.limits.registry import Block


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


def _result(pool: Any) -> object:
    return pool.submit(time.sleep, LONG).result()


def _map(pool: Any) -> object:
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
add("future-result", about, lambda: partial(_result, keep(ThreadPoolExecutor(1))))
about = "`with ThreadPoolExecutor()` around `Future.result()`"
pooled = partial(partial, within)
add("with-thread-pool", about, lambda: pooled(ThreadPoolExecutor(1), _result), quick=True)
about = "`with ThreadPoolExecutor()` around `Executor.map()`"
add("thread-pool-map", about, lambda: pooled(ThreadPoolExecutor(2), _map))


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


# ---- processes -----------------------------------------------------------------------------------


SLEEP: Final = ("sleep", str(int(LONG)))

# The start method that Python has on Linux up to 3.13, whichever one is running.
fork = multiprocessing.get_context("fork")
processes = Group("Processes and pools")


def _child(**options: Any) -> subprocess.Popen[bytes]:
    return keep(subprocess.Popen(SLEEP, **options))


def _join_until_it_has_ended(child: Any) -> None:
    child.start()
    # A TimeoutError is an OSError, which join() takes for the end of somebody else's child: it
    # returns as if nothing had happened.
    while child.is_alive():
        child.join()


def _held_by_this_process() -> Any:
    held = fork.Lock()
    held.acquire()
    return held


def _in_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        _result(pool)


add = processes.add
run = partial(partial, subprocess.run, SLEEP, check=True)
add("subprocess-run", "`subprocess.run()`", run, quick=True)
about = "`subprocess.run(..., capture_output=True)`"
add("subprocess-run-capture", about, lambda: run(capture_output=True))
about = "`Popen.communicate()`"
add("popen-communicate", about, lambda: _child(stdout=subprocess.PIPE).communicate)
add("popen-wait", "`Popen.wait()`", lambda: _child().wait)
add("popen-wait-timeout", "`Popen.wait(60)`", lambda: partial(_child().wait, LONG))
about = "`with Popen()` around `Popen.wait()`"
add("with-popen", about, lambda: partial(within, _child(), subprocess.Popen.wait))
add("waitpid", "`os.waitpid()`", lambda: partial(os.waitpid, _child().pid, 0))
add("os-system", "`os.system()`", lambda: partial(os.system, " ".join(SLEEP)))
about = "`multiprocessing.Process.join()`, until it has ended"
slow = partial(fork.Process, target=time.sleep, args=(LONG,))
add("process-join", about, lambda: partial(_join_until_it_has_ended, slow()))
about = "`multiprocessing.Queue.get()`"
add("process-queue-get", about, lambda: keep(fork.Queue()).get)
about = "`multiprocessing.Pipe()`: `recv()`"
add("connection-recv", about, lambda: keep(fork.Pipe())[0].recv)
add("process-lock", "`multiprocessing.Lock.acquire()`", lambda: _held_by_this_process().acquire)
add("pool-map", "`multiprocessing.Pool.map()`", lambda: partial(_map, keep(fork.Pool(2))))
about = "`Future.result()` of a process pool"
pool = partial(ProcessPoolExecutor, 1, mp_context=fork)
add("process-future-result", about, lambda: partial(_result, keep(pool())))
about = "`with ProcessPoolExecutor()` around `Future.result()`"
add("with-process-pool", about, lambda: _in_a_process_pool)
