"""This process as the system has it, and starting its program anew in the same process.

That is how a process without a supervisor is replaced after a timeout (``RECYCLE``): the answer has
gone out, the next event has not been asked for, and the last init fits into the time that is left.

``execve`` keeps more than one would think: the pid, interval timers, the masks of blocked and of
ignored signals, the working directory, and every descriptor that is not close-on-exec. So what the
process was given is noted at its start, and put back before it starts anew. What it was given in
the environment is read from ``/proc``: awslambdaric has taken the telemetry descriptor's number out
of the mapping by then, and the handler may have put anything into it.
"""

from __future__ import annotations

import os
import sys

from watchdog_lambda._engine.clock import SystemClock, cpu_time
from watchdog_lambda._log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Any, NoReturn
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

PAST = "_WATCHDOG_LAMBDA_PAST"
"""The environment variable that a restarted process is told its past in."""

_WHOLE_PROCESSOR_MB = 1769
"""So much memory comes with one processor; with less, its share (document "Lambda quotas")."""


class Start:
    """What this process was given at its start, and how long its init took.

    Raises:
        OSError: there is no /proc.

    Thread: main, as early as may be.
    """

    __slots__ = (
        "_init_cpu",
        "_init_ended_at",
        "_past",
        "_pid",
        "at",
        "cwd",
        "descriptors",
        "environ",
        "ignored",
        "mask",
    )

    def __init__(self, past: Mapping[str, str]) -> None:
        """Take note of it; `past` is what the program that takes this one's place is to know."""
        self.at = SystemClock.since_boot()
        self.environ = _first_environ()
        self.cwd = _cwd()
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.ignored = set(_ignored())
        self.descriptors = {fd for fd in _descriptors() if _is_inheritable(fd)}
        self._past = past
        self._pid = os.getpid()
        self.init_ends()

    def init_ends(self) -> None:
        """Say that the init is over by now; the last call counts. Thread: main."""
        self._init_ended_at = SystemClock.since_boot()
        self._init_cpu = cpu_time() - float(self._past.get("cpu", 0.0))

    def init_takes(self) -> float:
        """Seconds that another init would take: the last one, at the function's share.

        Lambda gives the first one a full processor, and one between two invocations what the memory
        is worth. Thread: any.
        """
        from watchdog_lambda._cpython.children import parent_and_start  # noqa: PLC0415 - rare

        began_at = float(self._past.get("began", 0.0)) or parent_and_start(self._pid)[1]
        return self._init_ended_at - began_at + self._init_cpu * (1 / _share(self.environ) - 1)

    def before_next_event(self, left: float) -> str | None:
        """Start the program anew in front of the next event; why not, if that cannot be.

        Args:
            left: seconds to the hard deadline, which holds for this init as well.

        Thread: the handler's, after its end.
        """
        if os.getpid() != self._pid:
            return "this is a child process"
        takes, until = self.init_takes(), SystemClock.monotonic() + left
        if takes > left:
            return f"the init takes {takes:.1f} s, {max(left, 0.0):.1f} s are left"

        def start_anew() -> None:
            # Posting the answer has taken a while.
            if SystemClock.monotonic() + takes > until:
                logger().warning("not recycled after all: no time is left for the init")
                return
            try:
                self.again()
            except OSError as error:
                logger().warning("not recycled after all: %s", error)

        return before_next_event(start_anew)

    def again(self) -> NoReturn:
        """Start the program anew in this very process, with its first environment.

        Ends the processes that this one has started, and all other threads.

        Raises:
            OSError: the program cannot be started; children have ended all the same.

        Thread: any.
        """
        from .offspring import end_children  # noqa: PLC0415 - once in a process's life

        end_children(self.at)
        for descriptor in _descriptors():
            # Not closed: other threads, stuck as they are, may be in the middle of using them.
            if descriptor > 2 and descriptor not in self.descriptors:
                _close_on_exec(descriptor)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            # They go on, and SIGALRM's default action is to end the process.
            signal.setitimer(timer, 0)
        for number in _ignored():
            if number not in self.ignored:
                signal.signal(number, signal.SIG_DFL)
        # Of this thread, which becomes the main one.
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        if self.cwd is not None:
            os.chdir(self.cwd)
        environ = dict(self.environ)
        # A snapshot is taken once; asked again, Lambda would have no answer.
        if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            del environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
        now = {"cpu": f"{cpu_time():.3f}", "began": f"{SystemClock.since_boot():.3f}"}
        environ[PAST] = " ".join(f"{name}={told}" for name, told in {**self._past, **now}.items())
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - ours


def before_next_event(action: Callable[[], object]) -> str | None:
    """Have something done in front of the next event; why not, if that cannot be.

    The answer has been taken by then: the runtime posts it before it asks for the next event.

    Thread: the handler's; the action's is the main one.
    """
    runtime: Any = sys.modules.get("awslambdaric.lambda_runtime_client")
    if runtime is None:
        return "the runtime is none of awslambdaric's"
    base = runtime.BaseLambdaRuntimeClient
    wait = base.wait_next_invocation

    def wait_next_invocation(client: object) -> Any:
        base.wait_next_invocation = wait
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        action()
        return wait(client)

    base.wait_next_invocation = wait_next_invocation
    return None


def take_past(environ: MutableMapping[str, str]) -> dict[str, str]:
    """What the program that ran in this process before has to say; empty in a first one.

    Taken out of `environ`, so that no child process of the handler's takes itself for restarted.
    """
    parts = environ.pop(PAST, "").split()
    return {name: value for name, _, value in (part.partition("=") for part in parts)}


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _ignored() -> list[int]:
    """The signals that this process ignores, which a program that it becomes would, too."""
    return [n for n in range(1, signal.NSIG) if signal.getsignal(n) == signal.SIG_IGN]


def _share(environ: Mapping[str, str]) -> float:
    """The share of a processor that the function's memory is worth."""
    memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    return min(1.0, max(int(memory), 1) / _WHOLE_PROCESSOR_MB) if memory.isdecimal() else 1.0


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
