"""Notes a process's initial state, and restarts its program in the same process.

A process without a supervisor is replaced in this way after a timeout (``RECYCLE``), when the
answer has been sent, the next event has not been requested, and the last init fits into the time
that is left.

``execve`` keeps more than one would think: the pid, interval timers, the masks of blocked and
ignored signals, the working directory, and every descriptor that is not close-on-exec. So the
initial state is noted at the start, and restored before the restart. The initial environment is
read from ``/proc``: awslambdaric has removed the telemetry descriptor's number from the mapping by
then, and the handler may have changed anything in it.
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
"""The environment variable that tells a restarted program about the one before."""

_WHOLE_PROCESSOR_MB = 1769
"""The memory that comes with one processor; less gets a share (document "Lambda quotas")."""


class Start:
    """The initial state of this process, and the duration of its init.

    Raises:
        OSError: there is no /proc.

    Thread: main, as early as possible.
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
        """Note the state; `past` is what a restarted program has to know."""
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
        """Note that the init is over; the last call counts. Thread: main."""
        self._init_ended_at = SystemClock.since_boot()
        self._init_cpu = cpu_time() - float(self._past.get("cpu", 0.0))

    def init_takes(self) -> float:
        """Estimate the seconds of another init: the last one, at the function's CPU share.

        Lambda gives the first init a full processor, and one between two invocations only the share
        that comes with the memory. Thread: any.
        """
        from watchdog_lambda._cpython.children import parent_and_start  # noqa: PLC0415 - rare

        began_at = float(self._past.get("began", 0.0)) or parent_and_start(self._pid)[1]
        return self._init_ended_at - began_at + self._init_cpu * (1 / _share(self.environ) - 1)

    def before_next_event(self, left: float) -> str | None:
        """Restart the program before the next event. Return why not, if that is not possible.

        Args:
            left: seconds to the hard deadline, which applies to the new init as well.

        Thread: the handler's, after its end.
        """
        if os.getpid() != self._pid:
            return "this is a child process"
        takes, until = self.init_takes(), SystemClock.monotonic() + left
        if takes > left:
            return f"the init takes {takes:.1f} s, {max(left, 0.0):.1f} s are left"

        def start_anew() -> None:
            # Check again: posting the answer has taken some time.
            if SystemClock.monotonic() + takes > until:
                logger().warning("not recycled after all: no time is left for the init")
                return
            try:
                self.again()
            except OSError as error:
                logger().warning("not recycled after all: %s", error)

        return before_next_event(start_anew)

    def again(self) -> NoReturn:
        """Restart the program in this very process, with its initial environment.

        Kills the processes that this one has started, and ends all other threads.

        Raises:
            OSError: the program cannot be started; the children are killed all the same.

        Thread: any.
        """
        from .offspring import end_children  # noqa: PLC0415 - called at most once

        end_children(self.at)
        for descriptor in _descriptors():
            # Do not close them: other threads may be using them.
            if descriptor not in self.descriptors:
                _close_on_exec(descriptor)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            # The timers would continue, and SIGALRM's default action kills the process.
            signal.setitimer(timer, 0)
        for number in _ignored():
            if number not in self.ignored:
                signal.signal(number, signal.SIG_DFL)
        # The mask of this thread, which becomes the main one.
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        if self.cwd is not None:
            os.chdir(self.cwd)
        environ = dict(self.environ)
        # A snapshot is taken only once. Lambda would not answer a second request.
        if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            del environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
        now = {"cpu": f"{cpu_time():.3f}", "began": f"{SystemClock.since_boot():.3f}"}
        environ[PAST] = " ".join(f"{name}={told}" for name, told in {**self._past, **now}.items())
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - ours


def before_next_event(action: Callable[[], object]) -> str | None:
    """Run `action` before the next event. Return why not, if that is not possible.

    The answer has been accepted by then: the runtime posts it before it asks for the next event.

    Thread: the handler's; the action runs on the main one.
    """
    runtime: Any = sys.modules.get("awslambdaric.lambda_runtime_client")
    if runtime is None:
        return "the runtime is not awslambdaric's"
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
    """Return what the program before has passed on; empty in the first one.

    It is removed from `environ`, so that the handler's child processes do not believe that they
    were restarted.
    """
    parts = environ.pop(PAST, "").split()
    return {name: value for name, _, value in (part.partition("=") for part in parts)}


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _ignored() -> list[int]:
    """Return the signals that this process ignores, which the restarted program would inherit."""
    return [n for n in range(1, signal.NSIG) if signal.getsignal(n) == signal.SIG_IGN]


def _share(environ: Mapping[str, str]) -> float:
    """Return the share of a processor that comes with the function's memory."""
    memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    return min(1.0, max(int(memory), 1) / _WHOLE_PROCESSOR_MB) if memory.isdecimal() else 1.0


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # the descriptor of the listing itself


def _close_on_exec(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        pass  # the descriptor of the listing itself


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _first_environ() -> dict[str, str]:
    """Return the environment that this program was started with."""
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().split(b"\0")
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    return {name: value for name, _, value in pairs}
