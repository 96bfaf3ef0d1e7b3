"""Gates hold the watchdog at a critical point while the handler's thread goes on."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support import BOUND, Context, DeafTap
from watchdog_lambda._cpython.delivery import Injector
from watchdog_lambda._cpython.stacks import all_stacks
from watchdog_lambda._engine import limits
from watchdog_lambda._engine.current import active, under_way
from watchdog_lambda._engine.kernel_timers import KernelTimers
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import prepared
from watchdog_lambda.testing.moves import have_done, move_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog_lambda._engine.invocation import Invocation

LONG = 240.0
"""The time in seconds of an invocation that a test moves in time, and that has more than enough."""


class Gate:
    """A point at which one thread is held until another opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.passed = threading.Event()
        self._open = threading.Event()

    def hold(self) -> None:
        """Set `reached` and wait. Only the first thread that comes is held."""
        if not self.reached.is_set():
            self.reached.set()
            assert self._open.wait(BOUND), "the gate was not opened in time"

    def wait_until_reached(self) -> None:
        assert self.reached.wait(BOUND), f"no thread reached the gate: {_state()}"

    def open(self) -> None:
        self._open.set()


def _state() -> str:
    """Return what the watchdog does, for the message about a gate that it has not reached."""
    watchdog = process_watchdog
    now, real = watchdog.clock.monotonic(), watchdog.nudge
    stack = all_stacks(watchdog._thread_id or 0).get(watchdog._thread_id or 0)
    instants = (watchdog.wake_at, watchdog.acts_at, watchdog._hint, watchdog._hint_span)
    there = {key: (one.due - now, one.is_open, one.firing) for key, one in under_way()}
    return (
        f"thread {watchdog._thread_id} lives: {watchdog._living.locked()}, at {stack}; "
        f"wakes, acts, hints in {[instant - now for instant in instants]}; "
        f"{real.number} ({real.refusal}), reaches {[key for key in there if real.reaches(key)]}; "
        f"{there}, {watchdog.escalations}, {prepared}, {limits.innermost}"
    )


def let_time_pass(invocation: Invocation, until: float) -> None:
    """Move an invocation to `until` seconds after its start. The watchdog looks right after that.

    So a test needs no instant that comes by itself, while a thread may wait for a processor.
    """
    own = active.get(threading.get_ident())

    def move() -> None:
        move_back(invocation, until - invocation.elapsed())

    have_done(move, invocation if invocation is own else None)


class Soon(Context):
    """A context of an invocation that fires soon after its start, whenever that is."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def get_remaining_time_in_millis(self) -> float:
        return 40.0


class GatedNudge:
    """The process's nudge, held just before the signal is sent."""

    def __init__(self, gate: Gate) -> None:
        self._real = process_watchdog.nudge
        self._gate = gate
        self.refusal = None

    @property
    def number(self) -> int | None:
        return self._real.number

    @property
    def heard(self) -> int:
        return self._real.heard

    @property
    def native_id(self) -> int:
        return self._real.native_id

    def install(self, wanted: str | int | None) -> None:
        self._real.install(wanted)

    def reaches(self, thread_id: int) -> bool:
        return self._real.reaches(thread_id)

    def is_ours(self) -> bool:
        return self._real.is_ours()

    def send(self) -> None:
        self._gate.hold()
        self._real.send()
        self._gate.passed.set()


class SilentNudge(GatedNudge):
    """A nudge that is due all the time and never sent: the test decides in its place."""

    def send(self) -> None:
        self._gate.passed.set()


class GatedInjector(Injector):
    """The injector, held between the watchdog's last look and the injection, or just after it."""

    __slots__ = ("_after", "_gate")

    def __init__(self, gate: Gate, *, after: bool = False) -> None:
        super().__init__()
        self.preload()
        self._gate = gate
        self._after = after

    def inject(self, thread_id: int, exception: type[BaseException]) -> bool:
        if not self._after:
            self._gate.hold()
        done = super().inject(thread_id, exception)
        if self._after:
            self._gate.hold()
        self._gate.passed.set()
        return done


class NoTimer:
    """Stands in for the kernel's timer, which would nudge while a gate holds the watchdog."""

    available = False

    def stop(self) -> None:
        """Do nothing, as nothing is set."""


@contextmanager
def parts(**replaced: object) -> Iterator[None]:
    """Replace parts of the process's watchdog in this block."""
    process_watchdog.preload()
    if "nudge" in replaced:
        if process_watchdog.kernel_timers._timer is not None:
            process_watchdog.kernel_timers._timer.stop()
        kernel_timers = replaced["kernel_timers"] = KernelTimers(
            process_watchdog.clock, process_watchdog.nudge
        )
        kernel_timers._timer = NoTimer()  # type: ignore[assignment]
    if "injector" in replaced:
        replaced["tap"] = DeafTap()  # so that the injector is used
    before = {name: getattr(process_watchdog, name) for name in replaced}
    for name, part in replaced.items():
        setattr(process_watchdog, name, part)
    try:
        yield
    finally:
        for name, part in before.items():
            setattr(process_watchdog, name, part)
