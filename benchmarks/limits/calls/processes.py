"""Waits for other processes, and for pools of them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, Final

from benchmarks.limits.registry import LONG, Group, keep

from .waiting import map_of, result_of, within

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
        result_of(pool)


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
add("pool-map", "`multiprocessing.Pool.map()`", lambda: partial(map_of, keep(fork.Pool(2))))
about = "`Future.result()` of a process pool"
pool = partial(ProcessPoolExecutor, 1, mp_context=fork)
add("process-future-result", about, lambda: partial(result_of, keep(pool())))
about = "`with ProcessPoolExecutor()` around `Future.result()`"
add("with-process-pool", about, lambda: _in_a_process_pool)
