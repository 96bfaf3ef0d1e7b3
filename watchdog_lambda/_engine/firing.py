"""One timeout: what the watchdog's thread and the handler's share of it, and who may still act.

The lock of a :class:`Firing` guards what must not happen once the invocation has been closed:
beginning a stage, injecting an exception, answering. The watchdog looks at ``is_open`` and acts
under it; the handler's thread closes first and takes it then, so that it either prevents the act or
sees all of it. It is held for microseconds, never while waiting and never around user code, so the
handler's thread may take it without a timeout.

What was injected can land there while it takes the lock, and ``with`` would leave that locked on
3.14: see :func:`_holding`.

What the watchdog does when is :mod:`.escalation`'s business.
"""

from __future__ import annotations

import sys
from _thread import RLock

from watchdog_lambda._cpython.delivery import trace_instructions
from watchdog_lambda._cpython.loops import loop_in, run_out, running_loop, wake
from watchdog_lambda._cpython.source import SourceMap, current_path
from watchdog_lambda._cpython.stacks import all_stacks, frame_of, gc_paused
from watchdog_lambda._cpython.tasks import note_run
from watchdog_lambda.errors import LANDING, Interrupt, LambdaTimeout, prepared

from .interrupts import InterruptPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, TypeVar

    from watchdog_lambda._cpython.delivery import Injector, Nudge
    from watchdog_lambda._lambda.last_resort import LastResort
    from watchdog_lambda.details import TimeoutDetails

    from .clock import Alarm, Clock
    from .invocation import Invocation
    from .stage import Stage

    _T = TypeVar("_T")

_DURABLE = {"DurableExecutionArn", "CheckpointToken"}


def is_durable(event: Any) -> bool:
    """Whether this invokes a durable function: there an error is final, and a timeout is retried.

    From the event that Lambda's SDK for durable execution reads (3.0.0). No code of the event's own
    is run for it.
    """
    return issubclass(type(event), dict) and dict[object, object].keys(event) >= _DURABLE


def _holding(lock: RLock, act: Callable[[], _T]) -> _T:
    """Do it with the lock held, in a thread in which something may land meanwhile.

    CPython 3.14 looks for that behind the call that enters a ``with`` and before its block
    (gh-148874). Here the first check point lies behind the taking and inside of the ``try``, and
    the next one outside of `act` behind the giving back. Pinned by
    test_late_injection_does_not_reach_the_next_invocation, which is stuck otherwise.
    """
    try:
        lock.acquire()
        return act()
    finally:
        try:
            lock.release()
        except RuntimeError:
            pass  # never taken: a signal's handler of the user's has raised while it was waited for


def _nothing() -> None:
    """Waiting for the lock was all."""


class Services:
    """What the watchdog acts with; one set per process."""

    __slots__ = ("alarm", "clock", "injector", "last_resort", "nudge")

    def __init__(
        self,
        clock: Clock,
        alarm: Alarm,
        nudge: Nudge,
        injector: Injector,
        last_resort: LastResort | None,
    ) -> None:
        self.clock = clock
        self.alarm = alarm
        self.nudge = nudge
        self.injector = injector
        self.last_resort = last_resort  # None where nothing but a report is to be had


class Firing:
    """The watchdog acting on one invocation, from the first thing that is due to the handler's end.

    Each attribute is written by one thread, which its comment names, and read by any.
    """

    __slots__ = (
        "_answer",
        "_is_landing",
        "_lock",
        "code",
        "delivery",
        "details",
        "ended_at",
        "fallback_error",
        "fired_at",
        "grace_run",
        "invocation",
        "is_concluded",
        "is_over",
        "is_reported",
        "loops",
        "may_interrupt",
        "other_stacks",
        "policy",
        "runs",
        "thread_id",
        "timeline",
        "tools",
    )

    def __init__(self, invocation: Invocation, thread_id: int, tools: Services) -> None:
        self.invocation = invocation
        self.thread_id = thread_id
        self.tools = tools
        self.timeline = invocation.timeline()
        self.code = SourceMap(current_path())
        self.policy = InterruptPolicy(invocation, thread_id, self.timeline, self.code, tools.clock)
        settings = invocation.plan.settings
        self.may_interrupt = settings.interrupt != "none" and (
            "interrupt" in settings.given or not is_durable(invocation.event)
        )
        # Watchdog's thread.
        self.runs: list[Stage] = []  # read by the handler's after settling
        self.grace_run: Stage | None = None  # the one of them that interrupts come after
        self.fired_at: float | None = None  # the beginning of the grace period, as it was kept
        self.details: TimeoutDetails | None = None
        self.other_stacks: dict[str, tuple[str, ...]] = {}
        self.delivery = "none"
        self.is_over = False  # nothing is left to do
        # Handler's thread.
        self.ended_at: float | None = None  # the handler's end
        self.fallback_error: str | None = None  # type and place, if there is one and it failed
        self.is_concluded = False  # at the very end
        self._is_landing = False
        # Either's.
        self._lock = RLock()
        self._answer = RLock()  # taken while the watchdog answers in the handler's place
        self.is_reported = False  # guarded by _lock
        self.loops: list[AbstractEventLoop] = []  # interrupted; by a nudge, or under _lock

    # ---- the watchdog's side -----------------------------------------------------------------

    def begin(self, run: Stage, details: TimeoutDetails, fired_at: float | None) -> bool:
        """Publish a stage of hooks that is about to begin; False if the invocation has settled.

        `fired_at` is given with the grace period's own.

        Thread: watchdog.
        """
        with self._lock:
            # Under the lock, or a stage could begin just after the handler's thread has looked
            # which ones it must wait for. Pinned by test_no_stage_begins_after_settle.
            if not self.invocation.is_open:
                return False
            self.details = details
            self.runs.append(run)
            if fired_at is not None:
                self.fired_at = fired_at
                self.grace_run = run
            return True

    def inject(self, now: float, handled: BaseException | None) -> None:
        """Have the interrupt that is due now, if one is, raised at the thread's next bytecode.

        Thread: watchdog.
        """
        with self._lock:
            # Check and inject under one lock. Otherwise: we see an open invocation; the handler's
            # thread settles and returns; we inject; the next invocation dies of it. Pinned by
            # test_late_injection_does_not_reach_the_next_invocation.
            if not self.invocation.is_open:
                return
            frame = frame_of(self.thread_id)
            stack = all_stacks(self.thread_id).get(self.thread_id, [])
            error = self.policy.decide(now, frame, handled, stack=stack)
            if error is None:
                return
            prepared[self.thread_id] = error
            self.tools.injector.inject(self.thread_id, LANDING[type(error)])
            loop = loop_in(self.thread_id)
            if loop is None:
                return
            with gc_paused():
                note_run(frame_of(self.thread_id))
            if loop not in self.loops:
                self.loops.append(loop)
        # Behind the injection, see there; and without the lock, as it is the loop's code that runs.
        wake(loop)

    def claim_answer(self) -> bool:
        """Whether the watchdog is to answer in the place of a handler that has not come back.

        Thread: watchdog.
        """
        with self._lock:
            # Check and claim under one lock. Otherwise: we see an open invocation; the handler's
            # thread settles and returns; both answer. Pinned by
            # test_a_handler_that_comes_back_during_the_last_resort_does_not_answer_again.
            return self.invocation.is_open and self._answer.acquire(False)

    def give_answer_back(self) -> None:
        """It was not taken after all. Thread: watchdog, after :meth:`claim_answer`."""
        self._answer.release()

    def has_caught_up(self, now: float) -> bool:
        """Whether no hook is under way and, from the grace period on, interrupts may land.

        Thread: any.
        """
        if any(not run.is_over() for run in self.runs):
            return False
        return now < self.timeline.grace_at or not self.policy.is_waiting

    # ---- the handler's side ------------------------------------------------------------------

    def land(self, frame: FrameType | None) -> BaseException | None:
        """The interrupt that must be raised in `frame` now, by whoever asks.

        Thread: the handler's.
        """
        return self._land(frame)

    def _land(self, frame: FrameType | None, *, in_place: bool = False) -> BaseException | None:
        if self._is_landing:
            # A nudge in the middle of a decision, as in a finaliser that the collector runs there.
            # It would raise into the finaliser, and pull the decision's state away from under it.
            # Pinned by test_a_nudge_in_a_finaliser_inside_of_a_decision_is_put_off.
            return None
        self._is_landing = True
        try:
            policy = self.policy
            now = self.tools.clock.monotonic()
            error = policy.decide(now, frame, sys.exc_info()[1], in_place=in_place)
            if error is not None and error._witness is not None:
                error._witness.landed()
                loop = running_loop()
                if loop is not None:
                    note_run(frame)
                    if loop not in self.loops:
                        self.loops.append(loop)
            elif policy.is_misplaced and frame is not None and not in_place:
                # Most of the nudges meet a tight loop at its back edge (174 of 204 counted on
                # 3.13), and where it calls nothing all do. So have it looked at instruction by
                # instruction.
                trace_instructions(frame, lambda: self._land(frame, in_place=True))
            return error
        finally:
            self._is_landing = False

    def land_at_shield(self, frame: FrameType) -> BaseException | None:
        """The same at the end of a shield, where the watchdog may be about to inject."""
        return _holding(self._lock, lambda: self.land(frame))

    def withdraw_for_shield(self) -> None:
        """Take back an injection on its way: a shield has just gone up. Thread: the handler's."""

        def take_back() -> None:
            if self._withdraw():
                self.policy.records.pop()

        _holding(self._lock, take_back)

    def settle(self) -> None:
        """From here on nothing of this invocation lands anywhere. Idempotent.

        One injected exception can still be on its way, and then lands in here; call it again.

        Thread: the handler's, with the invocation closed.
        """
        _holding(self._lock, self._withdraw)
        # Whoever comes back after the watchdog has answered must not answer again: it waits here
        # until the process goes, or the answer turns out not to have been taken.
        _holding(self._answer, _nothing)

    def _withdraw(self) -> bool:
        if self.thread_id not in prepared:
            return False
        # In this order: what lands before the withdrawal still finds its prepared instance.
        self.tools.injector.withdraw(self.thread_id)
        return prepared.pop(self.thread_id, None) is not None

    def run_out_loops(self) -> None:
        """Give what was left pending in event loops its end, until last call at the most.

        Thread: the handler's, after :meth:`settle`.
        """

        def run_out_all() -> None:
            for loop in self.loops:
                run_out(loop, self.timeline.last_call_at - self.tools.clock.monotonic())

        # One that an injection has left running, or one that runs us, to which nothing happens.
        loop = running_loop()
        if loop is not None and loop not in self.loops:
            self.loops.append(loop)
        if self.loops:
            self.run_until_last_call(run_out_all)

    def run_until_last_call(self, action: Callable[[], object]) -> None:
        """Run what is not ours to answer for, until last call at the most.

        The invocation is open again meanwhile, behind a shield, so that last call cuts this short
        too.

        Thread: the handler's, after :meth:`settle`.
        """
        invocation = self.invocation
        invocation.shields += 1
        invocation.is_open = True
        self.tools.alarm.ring()  # the watchdog looks rarely at one that it has seen closed
        try:
            action()
        except (LambdaTimeout, Interrupt):
            pass  # last call
        finally:
            invocation.is_open = False
            invocation.shields -= 1
            self.settle()

    def wait_for_hooks(self) -> None:
        """Wait for the stages that have begun, each until its budget ends at the latest.

        Lambda freezes the sandbox as soon as the runtime asks for the next event; a hook would stop
        halfway and go on in somebody else's invocation.

        Thread: the handler's, after :meth:`settle`.
        """
        for run in self.runs:
            run.wait()
            run.close()

    # ---- either's ----------------------------------------------------------------------------

    def elapsed(self) -> float:
        """Seconds since the invocation's start. Thread: any."""
        return self.tools.clock.monotonic() - self.invocation.start

    def claim_report(self) -> bool:
        """Whether the caller is the one to write this timeout's line. Thread: any, once each."""
        with self._lock:
            if self.is_reported or self.fired_at is None:
                return False
            self.is_reported = True
            return True
