"""Child processes, and pools of them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from . import At, making, plain

FORK = multiprocessing.get_context("fork")


def _say(n: int) -> int:
    said = subprocess.run(["echo", str(n)], check=True, stdout=subprocess.PIPE)
    return int(said.stdout)


def _piped(command: list[str]) -> bytes:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        return child.communicate()[0]


def _wait_for(pid: int) -> None:
    os.waitpid(pid, 0)


plain("subprocess.run", lambda: subprocess.run(["sleep", "60"], check=False), _say)


plain(
    "Popen, communicate", lambda: _piped(["sleep", "60"]), lambda n: int(_piped(["echo", str(n)]))
)


plain(
    "subprocess, a shell with a child of its own",
    lambda: _piped(["sh", "-c", "sleep 60; true"]),
    _say,
)


plain("os.system", lambda: os.system("sleep 60"), _say)


plain("os.popen", lambda: os.popen("sleep 60").read(), _say)


plain("os.waitpid", lambda: _wait_for(os.posix_spawn("/bin/sleep", ["sleep", "60"], {})), _say)


@making("multiprocessing, a process")
def _(_library: Any, _at: At) -> Any:
    def hang() -> None:
        child = FORK.Process(target=time.sleep, args=(60,))
        child.start()
        child.join()

    return _say, hang


@making("multiprocessing, a pool")
def _(_library: Any, _at: At) -> Any:
    def ask(n: int) -> int:
        with FORK.Pool(1) as pool:
            return pool.map(int, [n])[0]

    def hang() -> None:
        with FORK.Pool(1) as pool:
            pool.map(time.sleep, [60])

    return ask, hang


@making("multiprocessing, a global pool")
def _(_library: Any, _at: At) -> Any:
    pool = FORK.Pool(1)
    return lambda n: pool.apply(int, (n,)), lambda: pool.apply(time.sleep, (60,))


@making("with ProcessPoolExecutor")
def _(_library: Any, _at: At) -> Any:
    def ask(n: int) -> int:
        with ProcessPoolExecutor(1, FORK) as pool:
            return pool.submit(int, n).result()

    def hang() -> None:
        with ProcessPoolExecutor(1, FORK) as pool:
            pool.submit(time.sleep, 60).result()

    return ask, hang


@making("joblib", library="joblib")
def _(joblib: Any, _at: At) -> Any:
    def ask(n: int) -> int:
        return int(joblib.Parallel(2)([joblib.delayed(int)(n)])[0])

    return ask, lambda: joblib.Parallel(2)([joblib.delayed(time.sleep)(60)])
