"""Pipes, file locks, multiplexed waits and signals."""

from __future__ import annotations

import fcntl
import os
import select
import selectors
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from benchmarks.limits.registry import Group, keep

from .threads import LONG

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

group = Group("Pipes, file locks, `select` and signals")


@group.call(quick=True)
def read_pipe() -> Block:
    """`os.read()` of an empty pipe."""
    reader, _ = os.pipe()
    return lambda: os.read(reader, 1)


@group.call()
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


@group.call()
def read_file_object() -> Block:
    """`readline()` of a file object on a pipe."""
    reader, _ = os.pipe()
    return keep(os.fdopen(reader)).readline


@group.call()
def open_fifo() -> Block:
    """`open()` of a FIFO that nobody writes to."""
    os.mkfifo("fifo")
    return lambda: Path("fifo").open()


@group.call()
def flock() -> Block:
    """`fcntl.flock()`."""
    holder, waiter = (keep(_locked()) for _ in range(2))
    fcntl.flock(holder, fcntl.LOCK_EX)
    return lambda: fcntl.flock(waiter, fcntl.LOCK_EX)


@group.call()
def lockf() -> Block:
    """`fcntl.lockf()`."""
    waiter = keep(_locked())
    locked, tell = os.pipe()
    # A record lock is its process's: another one must hold it.
    if os.fork() == 0:
        fcntl.lockf(waiter, fcntl.LOCK_EX)
        os.write(tell, b"x")
        signal.pause()
    os.read(locked, 1)
    return lambda: fcntl.lockf(waiter, fcntl.LOCK_EX)


@group.call()
def select_select() -> Block:
    """`select.select()`."""
    reader, _ = os.pipe()
    return lambda: select.select([reader], [], [])


@group.call()
def select_timeout() -> Block:
    """`select.select(..., 60)`."""
    reader, _ = os.pipe()
    return lambda: select.select([reader], [], [], LONG)


@group.call()
def poll() -> Block:
    """`select.poll().poll()`."""
    reader, _ = os.pipe()
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    return poller.poll


@group.call()
def epoll() -> Block:
    """`select.epoll().poll()`."""
    reader, _ = os.pipe()
    poller = keep(select.epoll())
    poller.register(reader, select.EPOLLIN)
    return poller.poll


@group.call()
def selector() -> Block:
    """`selectors.DefaultSelector().select()`."""
    reader, _ = os.pipe()
    chosen = keep(selectors.DefaultSelector())
    chosen.register(reader, selectors.EVENT_READ)
    return chosen.select


@group.call()
def signal_pause() -> Block:
    """`signal.pause()`."""

    # pause() returns after any signal that has a handler; a handler that waits, waits again.
    def block() -> None:
        while True:
            signal.pause()

    return block


@group.call()
def sigtimedwait() -> Block:
    """`signal.sigtimedwait()`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    return lambda: signal.sigtimedwait([signal.SIGUSR1], LONG)


@group.call()
def sigwait() -> Block:
    """`signal.sigwait()`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    return lambda: signal.sigwait([signal.SIGUSR1])


@group.call()
def read_stdin() -> Block:
    """`sys.stdin.read()`."""
    reader, _ = os.pipe()
    os.dup2(reader, 0)
    return sys.stdin.read


def _locked() -> IO[str]:
    return Path("locked").open("w")
