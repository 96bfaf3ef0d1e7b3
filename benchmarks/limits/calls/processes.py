"""Child processes, and pools of them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Final

from benchmarks.limits.registry import Group, keep

from .threads import LONG

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

SLEEP: Final = ("sleep", str(int(LONG)))

# The start method that Python has on Linux up to 3.13, whichever one is running.
fork = multiprocessing.get_context("fork")
group = Group("Processes and pools")


@group.call(quick=True)
def subprocess_run() -> Block:
    """`subprocess.run()`."""
    return lambda: subprocess.run(SLEEP, check=True)


@group.call()
def subprocess_run_capture() -> Block:
    """`subprocess.run(..., capture_output=True)`."""
    return lambda: subprocess.run(SLEEP, check=True, capture_output=True)


@group.call()
def popen_communicate() -> Block:
    """`Popen.communicate()`."""
    return keep(subprocess.Popen(SLEEP, stdout=subprocess.PIPE)).communicate


@group.call()
def popen_wait() -> Block:
    """`Popen.wait()`."""
    return keep(subprocess.Popen(SLEEP)).wait


@group.call()
def popen_wait_timeout() -> Block:
    """`Popen.wait(60)`."""
    child = keep(subprocess.Popen(SLEEP))
    return lambda: child.wait(LONG)


@group.call()
def with_popen() -> Block:
    """`with Popen()` around `Popen.wait()`."""

    def block() -> None:
        with subprocess.Popen(SLEEP) as child:
            child.wait()

    return block


@group.call()
def waitpid() -> Block:
    """`os.waitpid()`."""
    child = keep(subprocess.Popen(SLEEP))
    return lambda: os.waitpid(child.pid, 0)


@group.call()
def os_system() -> Block:
    """`os.system()`."""
    return lambda: os.system(" ".join(SLEEP))  # noqa: S605 - what is measured


@group.call()
def process_join() -> Block:
    """`multiprocessing.Process.join()`, until it has ended."""
    child = keep(fork.Process(target=time.sleep, args=(LONG,)))
    child.start()

    # A TimeoutError is an OSError, which join() takes for the end of somebody else's child: it
    # returns as if nothing had happened.
    def block() -> None:
        while child.is_alive():
            child.join()

    return block


@group.call()
def process_queue_get() -> Block:
    """`multiprocessing.Queue.get()`."""
    return keep(fork.Queue()).get


@group.call()
def connection_recv() -> Block:
    """`multiprocessing.Pipe()`: `recv()`."""
    here, there = fork.Pipe()
    keep(there)
    return here.recv


@group.call()
def process_lock() -> Block:
    """`multiprocessing.Lock.acquire()`."""
    held = fork.Lock()
    held.acquire()
    return held.acquire


@group.call()
def pool_map() -> Block:
    """`multiprocessing.Pool.map()`."""
    pool = keep(fork.Pool(2))
    return lambda: pool.map(time.sleep, [LONG, LONG])


@group.call()
def process_future_result() -> Block:
    """`Future.result()` of a process pool."""
    pool = keep(ProcessPoolExecutor(1, mp_context=fork))
    return pool.submit(time.sleep, LONG).result


@group.call()
def with_process_pool() -> Block:
    """`with ProcessPoolExecutor()` around `Future.result()`."""

    def block() -> None:
        with ProcessPoolExecutor(1, mp_context=fork) as pool:
            pool.submit(time.sleep, LONG).result()

    return block
