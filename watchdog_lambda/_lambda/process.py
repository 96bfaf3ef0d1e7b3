"""This process as the system has it, and starting its program anew in the same process.

``execve`` keeps more than one would think: the pid, interval timers, the mask of blocked signals,
the working directory, and every descriptor that is not close-on-exec. So what the process was given
is noted at its start, and put back before it starts anew. What it was given in the environment is
read from ``/proc``: awslambdaric has taken the telemetry descriptor's number out of the mapping by
then, and the handler may have put anything into it.
"""

from __future__ import annotations

import os
import signal
import sys

from watchdog_lambda._engine.clock import SystemClock

from .kernel import processes_by_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from typing import NoReturn

PAST = "_WATCHDOG_LAMBDA_PAST"
"""The environment variable that a restarted process is told its past in."""

_REAPED_WITHIN = 0.02
"""Seconds for which ended children are waited for, so that none stays behind as a zombie."""


class Start:
    """What this process was given at its start.

    Thread: main, as early as may be.
    """

    __slots__ = ("children", "cwd", "descriptors", "environ", "mask")

    def __init__(self) -> None:
        self.environ = _first_environ()
        self.cwd = _cwd()
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.descriptors = {fd for fd in _descriptors() if _is_inheritable(fd)}
        # Started by whoever ran before us in this process, such as an image's start script: they
        # would not be started again.
        self.children = set(processes_by_parent().get(os.getpid(), ()))

    def again(self, past: Mapping[str, str]) -> NoReturn:
        """Start the program anew in this very process, with its first environment and a `past`.

        Ends the processes that this one has started, and all other threads.

        Raises:
            OSError: the program cannot be started; children have ended all the same.

        Thread: any.
        """
        end_children(self.children)
        for descriptor in _descriptors():
            # Not closed: other threads, stuck as they are, may be in the middle of using them.
            if descriptor > 2 and descriptor not in self.descriptors:
                _close_on_exec(descriptor)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            # They go on, and SIGALRM's default action is to end the process.
            signal.setitimer(timer, 0)
        # Of this thread, which becomes the main one.
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        if self.cwd is not None:
            os.chdir(self.cwd)
        environ = dict(self.environ)
        # A snapshot is taken once; asked again, Lambda would have no answer.
        if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            del environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
        environ[PAST] = _tell(past)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - ours


def take_past(environ: MutableMapping[str, str]) -> dict[str, str]:
    """What the program that ran in this process before has to say; empty in a first one.

    Taken out of `environ`, so that no child process of the handler's takes itself for restarted.
    """
    parts = environ.pop(PAST, "").split()
    return {name: value for name, _, value in (part.partition("=") for part in parts)}


def _tell(past: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in past.items())


def end_children(spared: set[int]) -> list[int]:
    """Kill the processes that this one has started, and theirs; but for those `spared`.

    Those that have put themselves under another parent are not found.
    """
    children = processes_by_parent()
    found: list[int] = []
    pending = [pid for pid in children.get(os.getpid(), ()) if pid not in spared]
    while pending:
        pid = pending.pop()
        found.append(pid)
        pending += children.get(pid, ())
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass  # it has ended by itself
    until = SystemClock.monotonic() + _REAPED_WITHIN
    for pid in found:
        while _is_running(pid) and SystemClock.monotonic() < until:
            SystemClock.pause(0.001)
    return found


def _is_running(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except OSError:
        return False  # somebody has waited for it, or it is no child of ours but a child's


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # the listing's own


def _close_on_exec(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        pass  # the listing's own


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _first_environ() -> dict[str, str]:
    """The environment that this program was started with."""
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().split(b"\0")
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    return {name: value for name, _, value in pairs}
