"""Handlers that time out with the process in a bad state, chosen by the event.

Each restores the state in a ``finally``, which runs only if the interrupt lands. So one process can
serve all of them in turn.
"""

from __future__ import annotations

import io
import logging
import os
import resource
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchdog_lambda import scoped_hook

if TYPE_CHECKING:
    from collections.abc import Callable

Event = dict[str, Any]
FOREVER = 60.0
KINDS: dict[str, Callable[[], object]] = {}


def handler(event: Event, _context: object) -> object:
    """Do what the event says."""
    if event["do"] == "ok":
        return {"ok": True, "pid": os.getpid()}
    return KINDS[event["do"]]()


def kind(function: Callable[[], object]) -> Callable[[], object]:
    KINDS[function.__name__] = function
    return function


def hang() -> None:
    time.sleep(FOREVER)


def eat(*sizes: int) -> None:
    """Allocate all the address space, in pieces of these sizes, and hang."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + (16 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    eaten: list[bytearray] = []
    try:
        for size in sizes:
            try:
                while True:
                    eaten.append(bytearray(size))
            except MemoryError:
                pass
        hang()
    finally:
        eaten.clear()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@kind
def memory_short() -> None:
    """Hang while a big allocation fails and no thread can be started, but small ones succeed."""
    eat(1 << 20)


@kind
def memory_gone() -> None:
    """Hang while hardly anything can be allocated."""
    eat(1 << 20, 1 << 16, 1 << 12, 600, 64)


@kind
def descriptors_gone() -> None:
    """Hang while the descriptor table is full."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    opened: list[int] = []
    try:
        try:
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        hang()
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@kind
def threads_gone() -> None:
    """Hang while no further thread can be started, so that no hook can run."""
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    user = os.getuid()
    with scoped_hook(print, "hook ran"):
        if user == 0:  # this limit does not apply to the superuser
            os.setresuid(65534, 65534, 0)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, limits[1]))
        try:
            hang()
        finally:
            if user == 0:
                os.setresuid(0, 0, 0)
            resource.setrlimit(resource.RLIMIT_NPROC, limits)


@kind
def thousand_threads() -> None:
    """Hang with a thousand threads, each of them deep in a recursion."""
    release = threading.Event()

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        else:
            release.wait(FOREVER)

    size = threading.stack_size(512 * 1024)
    threads = [
        threading.Thread(target=dive, args=(100,), name=f"diver-{number}" + 100 * "*")
        for number in range(1000)
    ]
    try:
        for thread in threads:
            thread.start()
        hang()
    finally:
        release.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        threading.stack_size(size)


@kind
def recursion() -> None:
    """Recurse as deeply as the interpreter allows, but for a few frames."""

    def dive(depth: int) -> int:
        try:
            return dive(depth + 1)
        except RecursionError:
            return depth

    def stay(depth: int) -> None:
        if depth:
            stay(depth - 1)
        else:
            hang()

    stay(dive(0) - 4)


class Broken(io.StringIO):
    """A stream whose writes fail."""

    def write(self, _text: str) -> int:
        raise ValueError("I/O operation on closed file")


def replaced(stream: io.StringIO | None) -> None:
    """Hang while a hook replaces the streams."""
    kept = sys.stdout, sys.stderr

    def take_away(_details: object = None) -> None:
        sys.stdout = sys.stderr = stream

    try:
        with scoped_hook(take_away):
            hang()
    finally:
        sys.stdout, sys.stderr = kept


@kind
def streams_none() -> None:
    replaced(None)


@kind
def streams_elsewhere() -> None:
    replaced(io.StringIO())


@kind
def streams_broken() -> None:
    replaced(Broken())


@kind
def in_a_logging_handler() -> None:
    """Hang with the lock of the runtime's own logging handler held."""

    class Hanging(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            hang()

    with ExitStack() as stack:
        for sink in logging.getLogger().handlers:
            sink.acquire()
            stack.callback(sink.release)
        hanging = Hanging()
        stack.callback(logging.getLogger("orders").removeHandler, hanging)
        logging.getLogger("orders").addHandler(hanging)
        logging.getLogger("orders").error("sent to somebody who does not answer")


@kind
def in_print() -> None:
    """Block in ``print`` on a full pipe, with the lock of the stream's buffer held."""
    print_into_a_full_pipe()


@kind
def in_anothers_print() -> None:
    """Wait for that lock in C code that checks for no signals, while another thread holds it."""
    started = threading.Event()

    def block() -> None:
        started.set()
        print_into_a_full_pipe()

    threading.Thread(target=block, daemon=True).start()
    started.wait()
    while not isinstance(sys.stdout.buffer, io.BufferedWriter) or sys.stdout.fileno() == 1:
        time.sleep(0.001)
    time.sleep(0.1)
    print("somebody else's line")


def print_into_a_full_pipe() -> None:
    reader, writer = os.pipe()
    stream = sys.stdout
    try:
        with io.FileIO(writer, "w") as raw:
            sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), write_through=True)
            try:
                print("x" * (1 << 17))
            finally:
                os.set_blocking(writer, False)  # Otherwise closing it would block again.
                os.read(reader, 1 << 17)
    finally:
        sys.stdout = stream
        os.close(reader)


@kind
def odd_names() -> None:
    """Hang in functions whose names break lines, JSON and encodings."""
    odd = 'x"}\n{"event": "forged"}\x1b[31m\udcff\U0001f600'
    code = compile("def run(): hang()", f"/var/task/{odd}.py", "exec")
    scope: dict[str, Any] = {"hang": hang}
    exec(code, scope)  # noqa: S102 - a file of that name cannot be had everywhere
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name=odd)
    thread.start()
    try:
        scope["run"]()
    finally:
        release.set()
        thread.join()
