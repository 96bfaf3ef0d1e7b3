"""Moving an invocation in time, for tests: the machinery of :mod:`watchdog_lambda.testing`.

The clock is the machine's, and stays so. It is the invocation's start that moves back, with its
hard deadline and the watchdog's next look, so that to everybody it looks as if the time had passed.
Nothing is simulated beyond that. The watchdog thread sees what is due, runs the hooks and lands the
interrupt as in production.

Time moves from one instant at which something is due to the next, and at each it waits, in real
time, until what is due has been done. So what a test sees does not depend on the machine's speed.

The watchdog thread itself moves the instants, between two looks at them (see
:attr:`WatchdogThread.pending_calls`): it never compares one that has moved with one that has not.
"""

from __future__ import annotations

import math
import sys
from _thread import allocate_lock, get_ident

from watchdog_lambda._cpython.source import PACKAGE
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.current import current
from watchdog_lambda._engine.invocation import active
from watchdog_lambda._engine.stage import Stage
from watchdog_lambda._process import process_watchdog
from watchdog_lambda._report.record import obstacle
from watchdog_lambda.errors import Interrupt, LambdaTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from watchdog_lambda._engine.clock import Timeline
    from watchdog_lambda._engine.invocation import Firing, Invocation

BOUND = 10.0
"""Seconds, real ones, after which something that must come has not come."""

_STEP = 0.002  # seconds between two looks at whether something has come
_EPSILON = 1e-6  # seconds: beyond the rounding of an instant, below what anybody can see


class ClockError(BaseException):
    """Time cannot be moved as the test asks; the message says why, and what to do.

    Not an ``Exception``, as ``pytest.fail`` raises none either: it is meant for the test, and the
    handler in between may well catch every ``Exception``.
    """

    __module__ = "watchdog_lambda.testing"
    # One raised in a cleanup is not made of the interrupt; else LambdaTimeout would take its place.
    __context__ = None


class TimeTravel:
    """Time passing for one invocation, for the thread that asks for it."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.ident = get_ident()
        self.is_handlers = active.get(self.ident) is invocation
        self.is_hooks = any(f.f_code is Stage._call.__code__ for f in _frames())
        self._move = _moves.get(invocation, 0)  # the last that we know of
        self._is_alone = True  # nobody else has moved it since

    @property
    def elapsed(self) -> float:
        """Seconds since the invocation's start, as everybody sees it."""
        return self.invocation.elapsed()

    @property
    def timeline(self) -> Timeline:
        """What is due when, in seconds since the start."""
        return self.invocation.timeline()

    # ---- going on ----------------------------------------------------------------------------

    def go_to(self, after: float) -> None:
        """Let time pass until `after` seconds from the start, and what is due on the way happen.

        In the handler's thread this is where an interrupt lands.
        """
        __tracebackhide__ = True
        if self.is_hooks:
            # The stage that it belongs to cannot be waited for, and is not over.
            self._move_to(after)
            return
        step = self.elapsed
        while True:
            interrupts = self._interrupts()
            step = min(after, self._next_event(step))
            self._move_to(step)
            with self._held_at(step):
                self._let_hooks_run()
                self._let_the_interrupt_land()
            # Where it lands in another thread, time stops for this one too: there it is over.
            if step >= after or not self.invocation.is_open or self._interrupts() != interrupts:
                return

    def land(self) -> None:
        """Wait for the hooks, and for the next interrupt if there is one to come.

        No time passes.
        """
        __tracebackhide__ = True
        with self._held_at(None):
            self._let_hooks_run()
            self._let_the_interrupt_land()

    def approach(self, after: float) -> None:
        """Let time pass as :meth:`go_to` does, but do not wait for what happens at the end of it.

        No interrupt lands in here.
        """
        step = self.elapsed
        while step < after:
            step = min(after, self._next_event(step))
            self._move_to(step)
            if step < after:
                self._let_hooks_run()

    def is_interrupt_expected(self) -> bool:
        """Whether an interrupt is to land in this thread without any more time passing.

        Thread: the handler's.
        """
        invocation = self.invocation
        firing = invocation.firing
        if invocation.plan.settings.interrupt == "none":
            return False
        is_last_call = self.elapsed >= self.timeline.last_call_at
        if invocation.shields and not is_last_call:
            return False
        if firing is None or not firing.policy.records:
            return True
        policy = firing.policy
        handled = sys.exc_info()[1]
        if is_last_call:
            cut_short = policy.records[-1].at >= firing.timeline.last_call_at
            return not (cut_short and policy.involves(handled))
        caller = next(f for f in _frames() if not f.f_code.co_filename.startswith(PACKAGE))
        return not (policy.involves(handled) or policy._is_winding_up(caller, None))

    def why_nothing_lands(self) -> str:
        """For the message about an interrupt that has not come."""
        firing = self.invocation.firing
        why = None if firing is None else obstacle(firing, "stuck")
        return why or "the watchdog thread has not come to it"

    def realign(self, after: float | None) -> None:
        """Take out what the landing took in real time: it landed `after` seconds from the start.

        So that the figures in its message are those of the test, on any machine.

        Thread: the handler's, which handles the interrupt.
        """
        firing = self.invocation.firing
        if after is None or firing is None or not firing.policy.records:
            return
        if not self._is_alone or _moves.get(self.invocation, 0) != self._move:
            return  # a hook or a thread of the handler's has moved it on: time does not go back
        record = firing.policy.records[-1]
        stage = firing.grace_stage
        if len(firing.policy.records) == 1 and stage is not None and not stage.has_ended():
            after += firing.timeline.hook_budget  # a hook has hung, and that took its time
        drift = record.at - (after + _EPSILON)
        if drift <= 0:
            return

        def take_out() -> None:
            _move_back(self.invocation, -drift)
            record.at -= drift
            if record.landed_at is not None:
                record.landed_at -= drift

        self._have_done(take_out)
        error = record.error()
        if error is not None:
            error.args = (firing.policy.message(record.at, record.place),)

    # ---- steps -------------------------------------------------------------------------------

    def _next_event(self, after: float) -> float:
        """When something is due next, in seconds from the start; infinity if nothing is."""
        invocation = self.invocation
        firing = invocation.firing
        if firing is None:
            return invocation.due - invocation.start
        escalation = process_watchdog.escalations.get(invocation)
        if escalation is None:
            return math.inf
        times = [at for at, _ in escalation.stages_to_come()]
        if firing.fired_at is not None:
            times += [firing.timeline.last_call_at, escalation.stuck_at(firing.fired_at)]
        return min((at for at in times if at > after + _EPSILON), default=math.inf)

    def _move_to(self, after: float) -> None:
        """Make it `after` seconds since the start, if it is not yet, and what is due begin."""
        invocation = self.invocation

        def move() -> None:
            moves = _moves.get(invocation, 0)
            self._is_alone = self._is_alone and moves == self._move
            self._move = _moves[invocation] = moves + 1
            missing = after + _EPSILON - self.elapsed
            if missing > 0:
                _move_back(invocation, missing)

        self._have_done(move)
        # A second one is done only after the look that follows the first.
        self._have_done(lambda: None)

    def _have_done(self, errand: Callable[[], None]) -> None:
        """Have the watchdog thread do something between two looks, and wait until it is done."""
        done = allocate_lock()
        done.acquire()
        failures: list[Exception] = []

        def do() -> None:
            try:
                errand()
            except Exception as error:  # noqa: BLE001 - the thread must outlive it
                failures.append(error)
            finally:
                done.release()

        process_watchdog.pending_calls.append(do)
        if self.is_handlers:
            # Not only rung: the nudge may not have been installed yet.
            process_watchdog.wake(self.invocation)
        else:
            process_watchdog._alarm.ring()
        if not done.acquire(True, BOUND):
            raise ClockError("time does not pass: the watchdog thread does not run")
        if failures:
            raise failures[0]

    def _let_hooks_run(self) -> None:
        """Wait until the hooks that have begun have ended, or have had their budget."""
        __tracebackhide__ = True
        firing = self.invocation.firing
        if firing is not None:
            stages = firing.stages
            _wait_until(lambda: all(stage.is_over() for stage in stages), math.inf)

    def _let_the_interrupt_land(self) -> None:
        """From the grace period on, wait for the interrupt, if there is one to come."""
        __tracebackhide__ = True
        invocation = self.invocation
        firing = invocation.firing
        if firing is None or firing.fired_at is None:
            return
        until = SystemClock.monotonic() + BOUND
        if invocation.plan.settings.interrupt != "none":
            # Then the end of a shield lands it.
            _wait_until(lambda: not firing.policy.is_waiting or not invocation.is_open, until)
        if not self.is_handlers:
            _wait_until(lambda: self._is_over_elsewhere(firing), until)
        elif self.is_interrupt_expected():
            _wait_until(lambda: False, until)
            raise ClockError(f"the interrupt has not landed: {self.why_nothing_lands()}")

    def _is_over_elsewhere(self, firing: Firing) -> bool:
        """Whether the handler's thread has its interrupt, or none is to come now."""
        invocation = self.invocation
        if not invocation.is_open or invocation.plan.settings.interrupt == "none":
            return True
        if invocation.shields and self.elapsed < self.timeline.last_call_at:
            return True
        return any(record.landed_at is not None for record in firing.policy.records)

    def _interrupts(self) -> int:
        firing = self.invocation.firing
        return 0 if firing is None else len(firing.policy.records)

    def _held_at(self, after: float | None) -> _Held:
        return _Held(self, after)


class _Held:
    """A block in which an interrupt may land, `after` seconds from the start."""

    def __init__(self, travel: TimeTravel, after: float | None) -> None:
        self._travel = travel
        self._after = after

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, LambdaTimeout | Interrupt):
            self._travel.realign(self._after)


_moves: dict[Invocation, int] = {}
"""How often time has been moved for each invocation, by whichever thread."""


def find() -> TimeTravel | None:
    """Time travel for the invocation that this thread works for, if there is one."""
    for ended in _moves.keys() - set(active.values()):
        _moves.pop(ended, None)
    invocation = current()
    return None if invocation is None else TimeTravel(invocation)


def _move_back(invocation: Invocation, seconds: float) -> None:
    """Move an invocation's three instants, and those who count from them.

    Everything else about an invocation is in seconds since its start.

    Thread: watchdog, between two looks.
    """
    invocation.start -= seconds
    invocation.hard -= seconds
    invocation.due -= seconds
    move_context = getattr(invocation.context, "_watchdog_move_back", None)
    if move_context is not None:
        move_context(seconds)
    firing = invocation.firing
    if firing is None:
        return
    firing.stopwatch.start = invocation.start
    for stage in firing.stages:
        # What hooks are told is frozen, and public: its deadline is an instant.
        object.__setattr__(stage.details, "deadline", invocation.hard)
        stage.wake()


def _frames() -> Iterator[FrameType]:
    """The calling thread's, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _wait_until(  # pragma: no cover - runs under another file's name, see below
    done: Callable[[], bool], until: float
) -> None:
    """Block, in steps, until `done` or the bound: an interrupt lands in here.

    In steps, because off the main thread it lands between two of them only.
    """
    __tracebackhide__ = True
    pause = allocate_lock()
    pause.acquire()
    while not done() and SystemClock.monotonic() < until:
        pause.acquire(True, _STEP)


# No interrupt lands in a frame of this package. This one stands for the user's call that blocks.
_wait_until.__code__ = _wait_until.__code__.replace(co_filename="<watchdog_lambda.testing>")
