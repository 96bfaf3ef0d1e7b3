"""What the tests share: contexts, a clock that stands still, and bounded waits."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchdog_lambda._config import Settings
from watchdog_lambda._engine.services import Services
from watchdog_lambda._hooks import HookRegistry
from watchdog_lambda._plan import NO_FALLBACK, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from watchdog_lambda._engine.invocation import Firing

BOUND = 10.0
"""The number of seconds after which a wait counts as failed, far more than a busy machine needs."""


class Context:
    """A Lambda context whose hard deadline is `seconds` after its creation."""

    aws_request_id = "request-1"
    function_name = "orders"
    function_version = "7"

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> float:
        """Return the remaining time with its fraction.

        The tests use deadlines shorter than Lambda's.
        """
        return max(0.0, self._deadline - time.monotonic()) * 1000


class Broken:
    """A user's object whose attributes and representation raise."""

    def __str__(self) -> str:
        raise ValueError("no")

    @property
    def name(self) -> str:
        raise ValueError("no")


class FakeAlarm:
    """Stands for the alarm: counts the calls, and wakes no thread."""

    def __init__(self) -> None:
        self.rung = 0

    def ring(self) -> None:
        self.rung += 1

    def wait(self, seconds: float) -> bool:
        raise AssertionError(f"waited {seconds} s on a clock that stands still")


class FakeClock:
    """A clock that stands still until it is advanced."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.cpu_time = 0.0
        self.alarm = FakeAlarm()

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.cpu_time

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def pause(self, seconds: float, /) -> None:
        self.now += seconds

    def make_alarm(self) -> FakeAlarm:
        return self.alarm


def plan(*registries: HookRegistry, fallback: object = NO_FALLBACK, **settings: Any) -> Plan:
    """Return a plan whose settings are not from the environment."""
    return Plan(
        Settings.from_environ({}, **settings), registries or (HookRegistry(),), fallback, settings
    )


class SilentReport:
    """Stands for the report, and records its calls."""

    def __init__(self) -> None:
        self.preloaded = 0
        self.written: list[tuple[str, str | None]] = []
        self.failures: list[BaseException] = []

    def preload(self) -> None:
        self.preloaded += 1

    def write(self, _firing: Firing, outcome: str, last_resort: str | None = None, /) -> None:
        self.written.append((outcome, last_resort))

    def write_failure(self, error: BaseException, /) -> None:
        self.failures.append(error)


class DeafTap:
    """Stands for the tap where the thread cannot decide itself. The interrupt is injected then."""

    def send(self, _thread_id: int, _frame: FrameType | None, _now: float) -> bool:
        return False

    def withdraw(self, _thread_id: int) -> bool:
        return False

    def forget(self) -> None:
        """Do nothing, since nothing is kept."""


def services(clock: FakeClock, **given: Any) -> Services:
    """Return the watchdog's services: only a clock and a report, unless others are given."""
    parts: dict[str, Any] = {
        "alarm": clock.alarm,
        "nudge": None,
        "tap": DeafTap(),
        "injector": None,
        "kernel_timers": None,
        "report": SilentReport(),
        "last_resort": None,
        **given,
    }
    return Services(clock, **parts)


def standing() -> FrameType:
    """Return a frame in which an interrupt may land: one that has stopped at its return."""
    return sys._getframe()


def block() -> None:
    """Block in a lock that is never released, as a handler may do."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=BOUND)
    raise AssertionError("no interrupt landed in time")


def here(call: Callable[[], Any]) -> Any:
    """Run on the main thread, where a nudge raises the interrupt."""
    return call()


def elsewhere(call: Callable[[], Any]) -> Any:
    """Run on another thread, where the interrupt is injected."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(2 * BOUND)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds, and fail after a bound."""
    pause = threading.Event()
    until = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < until, f"timed out waiting for {what}"
        pause.wait(0.001)


class BlockedCall:
    """A handler that is blocked in one call of C code until it is released.

    No injection ends the call. Thread: any.
    """

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def __call__(self, *_event_and_context: object) -> None:
        self._gate.acquire(timeout=BOUND)

    def let_go(self) -> None:
        """Let the call return."""
        self._gate.release()


def press_ctrl_c(command: subprocess.Popen[str]) -> str:
    """Send SIGINT until the command ends, and return what it wrote to standard error.

    The kernel may deliver a signal to another thread than the main one. CPython handles it on
    the main thread, but that is not woken from a wait for a lock then, so the first signal can
    be without effect.
    """
    until = time.monotonic() + BOUND
    while True:
        command.send_signal(signal.SIGINT)
        try:
            return command.communicate(timeout=1.0)[1]
        except subprocess.TimeoutExpired:
            assert time.monotonic() < until, "the command ignored Ctrl-C"


def children_of(parent: int) -> Iterator[int]:
    """Return the children of this process that have not ended."""
    for process in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        try:
            state = Path("/proc", process, "stat").read_text()
        except OSError:
            continue  # not a process, or one that has ended
        # The state and the parent follow the name, which is in brackets.
        if process.isdecimal() and int(state.rpartition(")")[2].split()[1]) == parent:
            yield int(process)


def landed_outside(seconds: float = 0.03) -> list[BaseException]:
    """Return what lands in this thread now that no invocation is open.

    Anything but nothing is a defect. Runs bytecode with check points in each turn of a loop,
    and blocks now and then.
    """
    landed: list[BaseException] = []
    until = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < until:
        try:
            for _ in range(100):
                math.sqrt(2.0)
            pause.wait(0.001)
        except BaseException as error:  # an interrupt is what this looks for
            landed.append(error)
    return landed


def in_a_fork(work: Callable[[], bytes]) -> bytes:
    """Run `work` in a forked child, and return its result."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # 3.12 warns of a fork with several threads, which is intended here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            os.write(writer, work())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said
