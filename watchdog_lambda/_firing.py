"""What happens to one invocation once something is due: stages of hooks, interrupts, last call.

The lock of a :class:`Firing` guards what must not happen once the invocation has been closed:
beginning a stage, injecting an exception. The watchdog looks at ``is_open`` and acts under it; the
handler's thread closes first and takes it then, so that it either prevents the act or sees all of
it. It is held for microseconds, never while waiting and never around user code, so the handler's
thread may take it without a timeout. It is taken with ``with`` on a bare lock only: CPython has no
check point between taking it and being inside of the block, so an exception that lands there cannot
leave it locked.
"""

from __future__ import annotations

import math
import sys
from _thread import allocate_lock

from . import _metrics, _report
from ._hooks import StageRun, stages
from ._interrupt import frame_of, handled_by, trace_instructions
from ._ladder import Ladder
from ._loops import run_out, running_loop
from ._places import CodeMap, current_path
from ._stacks import all_stacks
from .details import TimeoutDetails
from .errors import LANDING, Interrupt, LambdaTimeout, prepared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ._clock import Alarm, Clock
    from ._hooks import Hook
    from ._interrupt import Injector, Nudge
    from ._invocation import Invocation
    from ._last_resort import LastResort

NUDGE_PERIOD = 0.01
"""Seconds between nudges. A single one is lost in up to 39 % of the bad windows: it strikes
just before the system call that it should have ended."""

PUT_OFF_PERIOD = 0.001
"""The same while an interrupt is put off: the next nudge should meet another instruction."""

LATE_PERIOD = 0.25
"""The same once the hard deadline has passed and nobody kills the process (Managed Instances)."""

GIVE_UP_SHARES = {"report": 0.5, "exit": 0.5, "restart": 0.1}
"""How much of the time from last call to the hard deadline a handler gets before it is given up.

It is for the interrupt that cuts even a cleanup short: whom it brings back reports its own end. A
restart needs the rest: the runtime must be there again before the hard deadline.
"""


def is_durable(event: object) -> bool:
    """Whether this invokes a durable function: there an error is final, and a timeout is retried.

    From the event that Lambda's SDK for durable execution reads (3.0.0).
    """
    return isinstance(event, dict) and "DurableExecutionArn" in event and "CheckpointToken" in event


class Tools:
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
    """The watchdog acting on one invocation."""

    __slots__ = (
        "_answer",
        "_grace_run",
        "_has_given_up",
        "_is_landing",
        "_lock",
        "_tools",
        "code",
        "delivery",
        "details",
        "ended_at",
        "fired_at",
        "interrupts",
        "invocation",
        "is_concluded",
        "is_over",
        "is_reported",
        "ladder",
        "loops",
        "other_stacks",
        "runs",
        "thread_id",
        "timeline",
        "todo",
    )

    def __init__(self, invocation: Invocation, thread_id: int, tools: Tools) -> None:
        self.invocation = invocation
        self.thread_id = thread_id
        self.timeline = invocation.timeline()
        self.code = CodeMap(current_path())
        self.ladder = Ladder(invocation, thread_id, self.timeline, self.code, tools.clock)
        self.runs: list[StageRun] = []  # watchdog thread; read by the handler's after settling
        self.details: TimeoutDetails | None = None
        self.other_stacks: dict[str, tuple[str, ...]] = {}
        self.delivery = "none"
        self._is_landing = False  # handler's thread
        self.is_concluded = False  # handler's thread, at the very end
        self.is_over = False  # watchdog thread: nothing is left to do
        # The event loops that interrupts have landed in; handler's thread.
        self.loops: list[AbstractEventLoop] = []
        self.fired_at: float | None = None  # the beginning of the grace period, as it was kept
        self.ended_at: float | None = None  # the handler's end; handler's thread
        self._grace_run: StageRun | None = None
        # Stages to come: instant, hooks, and whether it is the grace period's own. Watchdog thread.
        self.todo: list[tuple[float, list[Hook], bool]] | None = None
        self._tools = tools
        self._lock = allocate_lock()
        self._answer = allocate_lock()  # taken while the watchdog answers in the handler's place
        self.is_reported = False  # guarded by _lock
        self._has_given_up = False  # watchdog thread
        settings = invocation.plan.settings
        self.interrupts = settings.interrupt != "none" and (
            "interrupt" in settings.given or not is_durable(invocation.event)
        )

    # ---- the watchdog's side -----------------------------------------------------------------

    def run(self) -> Iterator[float]:
        """Do what is due, and yield when to go on; ends when there is nothing left to do.

        May be called again where memory was short; what has been begun is not begun anew.

        Thread: watchdog.
        """
        clock = self._tools.clock
        if self.todo is None:
            self.todo = self._stages()
        todo = self.todo
        while True:
            # Looked at again soon after the handler's end (_press sees to that), so that what the
            # invocation holds is not kept alive by us.
            if self.is_concluded and all(stage.is_over() for stage in self.runs):
                return
            now = clock.monotonic()
            if not self._begin_due(todo, now):
                return
            wake = todo[0][0] if todo else math.inf
            for stage in self.runs:
                if not stage.is_over():
                    wake = min(wake, stage.step(now))
            if self._grace_run is not None and self._grace_run.is_over():
                wake = min(wake, self._press(now))
            if self.fired_at is not None and not self._has_given_up:
                stuck_at = self._stuck_at(self.fired_at)
                if now >= stuck_at:
                    self._give_up(now)
                else:
                    wake = min(wake, stuck_at)
            yield wake

    def _stages(self) -> list[tuple[float, list[Hook], bool]]:
        """Instant, hooks, and whether it is the grace period's own stage; in order."""
        by_before = stages(self.invocation.plan.registries)
        todo = [(self.timeline.grace_at, by_before.pop(None, []), True)]
        todo += [
            (self.timeline.stage_at(before), hooks, False)
            for before, hooks in by_before.items()
            if before is not None
        ]
        todo.sort(key=lambda stage: stage[0])
        return todo

    def _begin_due(self, todo: list[tuple[float, list[Hook], bool]], now: float) -> bool:
        """Begin the stages that are due; False if the invocation has settled."""
        while todo and todo[0][0] <= now:
            _, hooks, is_grace = todo[0]
            if not self._begin(now, hooks, is_grace=is_grace):
                return False
            del todo[0]  # afterwards: where memory was short, it is begun again
        return True

    def _begin(self, now: float, hooks: list[Hook], *, is_grace: bool) -> bool:
        """Begin one stage; False if the invocation has settled."""
        details = self._look(now)
        run = StageRun(
            hooks, details, self.timeline.hook_budget, self._tools.clock, self._tools.alarm
        )
        with self._lock:
            # Under the lock, or a stage could begin just after the handler's thread has looked
            # which ones it must wait for. Pinned by test_no_stage_begins_after_settle.
            if not self.invocation.is_open:
                return False
            self.details = details
            self.runs.append(run)
            if is_grace:
                self.fired_at = now
                self._grace_run = run
        run.begin()
        return True

    def _look(self, now: float) -> TimeoutDetails:
        """Where everybody is, for the hooks and for the record."""
        stacks = all_stacks(self.thread_id)
        stack = stacks.pop(self.thread_id, [])
        self.other_stacks = _report.other_stacks(self.code, stacks)
        context = self.invocation.context
        return TimeoutDetails(
            request_id=_report.attribute(context, "aws_request_id"),
            function_name=_report.attribute(context, "function_name"),
            deadline=self.timeline.hard,
            elapsed=now - self.timeline.start,
            grace_period=self.timeline.grace_period,
            stack=self.code.places(stack),
            location=self.code.location(stack),
        )

    def _press(self, now: float) -> float:
        """Try to land an interrupt; when to try again."""
        if not self.invocation.is_open or not self.interrupts:
            return now + LATE_PERIOD
        tools, thread_id = self._tools, self.thread_id
        nudges = tools.nudge.reaches(thread_id)
        if nudges or tools.injector.available:
            self.delivery = "nudge" if nudges else "injection"
        if self.ladder.is_waiting and self.details is not None:
            self.ladder.start(now, self.details)
        handled = handled_by(thread_id)
        # Asked from here first, so that a cleanup that is left alone is not disturbed either.
        if self.ladder.is_wanted(now, handled):
            if nudges:
                tools.nudge.send()
            elif tools.injector.available:
                self._inject(now, handled)
        if self.ladder.is_put_off:
            return now + PUT_OFF_PERIOD
        return now + (NUDGE_PERIOD if now < self.timeline.hard else LATE_PERIOD)

    def _inject(self, now: float, handled: BaseException | None) -> None:
        with self._lock:
            # Check and inject under one lock. Otherwise: we see an open invocation; the handler's
            # thread settles and returns; we inject; the next invocation dies of it. Pinned by
            # test_late_injection_does_not_reach_the_next_invocation.
            if not self.invocation.is_open:
                return
            frame = frame_of(self.thread_id)
            stack = all_stacks(self.thread_id).get(self.thread_id, [])
            error = self.ladder.decide(now, frame, handled, stack=stack)
            if error is not None:
                prepared[self.thread_id] = error
                self._tools.injector.inject(self.thread_id, LANDING[type(error)])

    def _stuck_at(self, fired_at: float) -> float:
        """When a handler that has not come back is reported as stuck."""
        if fired_at >= self.timeline.hard:
            # C code held the GIL beyond the hard deadline, and nobody has killed (Managed
            # Instances): hooks and interrupts come first.
            return fired_at + self.timeline.grace_period
        timeline = self.timeline
        share = GIVE_UP_SHARES[self.invocation.plan.settings.last_resort]
        return timeline.last_call_at + share * (timeline.hard - timeline.last_call_at)

    def _give_up(self, now: float) -> None:
        """Last call has passed and the handler has not come back: say where it is, and leave."""
        self._has_given_up = True
        self._look(now)
        action = self.invocation.plan.settings.last_resort
        if action == "report" or now >= self.timeline.hard:
            why_not = None
        elif self._tools.last_resort is None:
            why_not = "not available here"
        elif not self.interrupts and self.invocation.plan.settings.interrupt != "none":
            why_not = "a durable function: an error would be final"
        else:
            # Returns only if it has not come to it.
            why_not = self._tools.last_resort.act(self, self._tools.clock.monotonic)
        if self.invocation.is_open and self.claim_report():
            remark = None if why_not is None else f"not {action}: {why_not}"
            _report.write(self, "stuck", now, last_resort=remark)
            _metrics.write(self, "stuck", now)

    def has_caught_up(self, now: float) -> bool:
        """Whether no hook is under way and, from the grace period on, interrupts may land."""
        if any(not run.is_over() for run in self.runs):
            return False
        return now < self.timeline.grace_at or not self.ladder.is_waiting

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
            ladder = self.ladder
            now = self._tools.clock.monotonic()
            error = ladder.decide(now, frame, sys.exc_info()[1], in_place=in_place)
            if error is not None and error._witness is not None:
                error._witness.landed()
                loop = running_loop()
                if loop is not None and loop not in self.loops:
                    self.loops.append(loop)
            elif ladder.is_at_back_edge and frame is not None and not in_place:
                # Most of the nudges meet a tight loop there (174 of 204 counted on 3.13), and
                # where it calls nothing all do. So have it looked at instruction by instruction.
                trace_instructions(frame, lambda: self._land(frame, in_place=True))
            return error
        finally:
            self._is_landing = False

    def land_at_shield(self, frame: FrameType) -> BaseException | None:
        """The same at the end of a shield, where the watchdog may be about to inject."""
        with self._lock:
            return self.land(frame)

    def hold_back(self) -> None:
        """Take back an injection on its way: a shield has just gone up. Thread: the handler's."""
        with self._lock:
            if self._withdraw():
                self.ladder.records.pop()

    def settle(self) -> None:
        """From here on nothing of this invocation lands anywhere. Idempotent.

        One injected exception can still be on its way, and then lands in here; call it again.

        Thread: the handler's, with the invocation closed.
        """
        with self._lock:
            self._withdraw()
        # Whoever comes back after the watchdog has answered must not answer again: it waits here
        # until the process goes, or the answer turns out not to have been taken.
        with self._answer:
            pass

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

    def _withdraw(self) -> bool:
        if self.thread_id not in prepared:
            return False
        # In this order: what lands before the withdrawal still finds its prepared instance.
        self._tools.injector.withdraw(self.thread_id)
        return prepared.pop(self.thread_id, None) is not None

    def run_out_loops(self) -> None:
        """Give what was left pending in event loops its end, until last call at the most.

        Thread: the handler's, after :meth:`settle`.
        """

        def run_out_all() -> None:
            for loop in self.loops:
                run_out(loop, self.timeline.last_call_at - self._tools.clock.monotonic())

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

    def obstacle(self, outcome: str) -> str | None:
        """What held the interrupt up, or could have; None if nothing did. Thread: any."""
        if self.delivery == "injection":
            nudge = self._tools.nudge
            if nudge.refusal is not None:
                why = nudge.refusal
            elif nudge.number is None or nudge.is_ours():
                why = "the handler is not on the main thread"
            else:
                why = "somebody has taken the wake signal over"
            return f"no nudge ({why}): an interrupt lands only once a blocked call has returned"
        if self.delivery == "nudge" or self.invocation.plan.settings.interrupt == "none":
            return None
        if not self.interrupts:
            return (
                "a durable function: an interrupt's error would be final, while Lambda retries "
                "after a timeout; set INTERRUPT to have it all the same"
            )
        if self.ladder.is_waiting:
            if outcome == "stuck":
                return "C code held the GIL: the watchdog has come to run only now"
            return "the handler ended before an interrupt was due"
        return f"no means to interrupt: no nudge ({self._tools.nudge.refusal}), no ctypes"

    def claim_report(self) -> bool:
        """Whether the caller is the one to write this timeout's line. Thread: any, once each."""
        with self._lock:
            if self.is_reported or self.fired_at is None:
                return False
            self.is_reported = True
            return True
