"""Everything that the handler's thread and the watchdog's thread share about one invocation.

Every call has an :class:`Invocation`. It is small, and reused unless another thread has seen it
(:mod:`.current`). It gets a :class:`Firing` once the watchdog acts on it. Each attribute has one
writer, named in its comment, and any number of readers.

Two flags are set once and never reset: the handler's thread sets ``is_concluded`` when the call is
about to return, and the watchdog's thread ``is_over`` when it has nothing left to do. An invocation
whose ``is_open`` is False can be opened again; see :func:`.shields.reopen`.

The threads decide without a lock which of them is first: each stores, then reads what the other
one stores, so at least one sees the other's store. If the two lines on either side were swapped,
neither might see it. The tests named are in ``tests``.

1. Closing; otherwise an interrupt lands after the handler's end (threads/test_settle_gates.py).

    handler's thread              watchdog's thread
    is_open = False               firing = Firing(...)
    read firing                   read is_open

2. Arming; otherwise the watchdog sleeps past a deadline (threads/test_watchdog_thread.py).

    handler's thread              watchdog's thread
    is_open = True                wake_at = the earliest instant
    read wake_at                  read active again

3. The dump of all stacks; otherwise it is written for an invocation that has ended, at the latest
   when a frozen sandbox thaws (test_no_stack_dump_for_ended_invocation).

    handler's thread              before the watchdog's thread sleeps
    is_open = False               dump_for = invocation; set the timer
    read dump_for                 read is_open

4. Shields; otherwise an injection lands in a shielded block (threads/test_shield.py).

    handler's thread              watchdog's thread, under the lock
    shields += 1                  read shields
    withdraw what was injected    inject

Holding a firing's lock means that the invocation does not settle meanwhile. Under it the watchdog
reads ``is_open`` and acts: it begins a stage, injects, severs a wait, claims the answer. The
handler's thread first closes the invocation and then takes the lock, so that it either prevents the
action or sees all of it. The lock is held for microseconds, never while waiting, and never around
user code.

Holding the answer lock means that the watchdog answers in place of the handler. A handler that
returns then waits for it forever, or until the answer has been refused.
"""

from __future__ import annotations

import math
from _thread import RLock

from watchdog_lambda._cpython.delivery import holding
from watchdog_lambda._cpython.recursion import Room
from watchdog_lambda._cpython.source import current_source
from watchdog_lambda.errors import prepared

from .clock import Stopwatch
from .interrupts import InterruptPolicy
from .timed import Timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from watchdog_lambda._plan import Plan
    from watchdog_lambda.details import TimeoutDetails

    from .samples import Samples
    from .services import Services
    from .stage import HookRecord, Stage


class Invocation(Timed):
    """One call of a watched handler. Its two instants are on the monotonic clock."""

    __slots__ = ("context", "firing", "is_open", "is_seen", "shields")

    def __init__(  # noqa: PLR0917 - made in one place, and by tests
        self, plan: Plan, event: object, context: object, start: float, limit: float, due: float
    ) -> None:
        self.plan = plan  # handler's thread; an inner @watch replaces it by a merged one
        self.event = event  # to recognise durable functions, and for the fallback; never logged
        self.context = context
        self.start = start
        self.limit = limit  # seconds from the start to the hard deadline
        # When the watchdog must look next, for a sample or to act. Written by the handler's thread,
        # and by the watchdog's once it has looked. A thread that changes plan or hooks rings the
        # watchdog, which then computes it again.
        self.due = due
        self.is_open = True  # handler's thread
        self.is_seen = False  # any thread that takes it out of current.active; never reset
        self.firing: Firing | None = None  # watchdog's thread, once
        self.shields = 0  # handler's thread

    def is_acted_on(self) -> bool:
        """Return whether there is a firing. Thread: any."""
        return self.firing is not None

    def has_fired(self) -> bool:
        """Return whether the watchdog has begun the grace period. Thread: any."""
        firing = self.firing
        return firing is not None and firing.fired_at is not None

    def is_out_of_time(self) -> bool:
        """Return whether the grace period has begun, so that no new work should. Thread: any."""
        return self.has_fired() or self.elapsed() >= self.timeline().grace_at


class Firing:
    """The watchdog's work on one invocation, from the first due instant to the handler's end.

    Its instants are in seconds since the invocation's start.
    """

    # fmt: off
    __slots__ = (
        "_answer", "after", "code", "cpu_time", "delivery", "details", "ended_at", "fallback_error",
        "fired_at", "grace_stage", "invocation", "is_concluded", "is_over", "is_reported", "lock",
        "looks_blocked", "loops", "may_interrupt", "other_stacks", "policy", "recycled", "room",
        "samples", "services", "severed", "stages", "stopwatch", "thread_id", "timeline", "unended",
    )
    # fmt: on

    def __init__(self, invocation: Invocation, thread_id: int, services: Services) -> None:
        self.invocation = invocation
        self.thread_id = thread_id
        self.services = services
        self.stopwatch = Stopwatch(services.clock, invocation.start)
        self.timeline = invocation.timeline()
        self.code = current_source()
        self.policy = InterruptPolicy(
            invocation, thread_id, self.timeline, self.code, self.stopwatch
        )
        self.may_interrupt = invocation.may_be_interrupted()
        # The watchdog's thread.
        self.is_over = False  # whether nothing is left to do
        self.stages: list[Stage] = []  # read by the handler's after settling
        self.grace_stage: Stage | None = None  # the stage after which interrupts are due
        self.fired_at: float | None = None  # when the grace period really began
        self.details: TimeoutDetails | None = None
        self.samples: Samples | None = None  # where the time went; complete once it has fired
        self.other_stacks: dict[str, tuple[str, ...]] = {}
        self.delivery = "none"
        self.severed: list[str] = []  # the peers and children of severed waits
        # The handler's thread.
        self.is_concluded = False  # whether the call is about to return
        self.ended_at: float | None = None  # the handler's end
        self.fallback_error: str | None = None  # type and place of the fallback's error
        self.after: list[HookRecord] = []  # hooks that ran after the handler's end
        self.recycled: str | None = None  # why the process is replaced, or why it is kept
        self.unended: list[str] = []  # tasks that have ignored their cancellation
        self.cpu_time = math.inf  # its own, when a nudge has last let hooks run
        # Either thread.
        self.looks_blocked = False  # as seen for a nudge; the nudge's handler resets it
        self.lock = RLock()
        self._answer = RLock()
        self.is_reported = False  # under the lock
        self.room = Room()  # added under the lock, removed in settle
        self.loops: list[AbstractEventLoop] = []  # interrupted; added by a nudge, or under lock

    def elapsed(self) -> float:
        """Return the seconds since the invocation's start. Thread: any."""
        return self.stopwatch.elapsed()

    # ---- the watchdog's side -----------------------------------------------------------------

    def begin(self, stage: Stage | None, details: TimeoutDetails, fired_at: float | None) -> bool:
        """Publish a stage of hooks that is about to begin; False if the invocation has settled.

        `fired_at` is given with the grace period's own stage, and without one for a block.

        Thread: watchdog.
        """
        with self.lock:
            # Do this under the lock. Otherwise a stage could begin just after the handler's thread
            # has read which stages to wait for. Pinned by test_no_stage_begins_after_settle.
            if not self.invocation.is_open:
                return False
            self.details = details
            if stage is not None:
                self.stages.append(stage)
            if fired_at is not None:
                self.grace_stage = stage
                self.fired_at = fired_at
                self.room.add()
            return True

    def claim_answer(self) -> bool:
        """Return whether the watchdog may answer in place of the handler. Thread: watchdog."""
        with self.lock:
            # Check and claim under one lock. Otherwise: we see an open invocation; the handler's
            # thread settles and returns; both answer. Pinned by
            # test_handler_returning_during_last_resort_does_not_answer.
            return self.invocation.is_open and self._answer.acquire(False)

    def give_answer_back(self) -> None:
        """Let the handler answer: ours was refused. Thread: watchdog, after `claim_answer`."""
        self._answer.release()

    # ---- the handler's side ------------------------------------------------------------------

    def settle(self) -> None:
        """Make sure that nothing of this invocation lands anywhere from now on. Idempotent.

        One injected exception may already be on its way, and then lands in here; call this again.

        Thread: the handler's, with the invocation closed.
        """
        self.policy.approach.stop()
        holding(self.lock, self.withdraw)
        holding(self._answer, lambda: None)  # wait while the watchdog answers
        # After the lock. Otherwise: begin() has found us open; we close, and find no room to
        # remove; it adds the room, and the limit stays raised. Pinned by
        # test_timeout_beginning_at_handler_end_restores_recursion_limit.
        self.room.remove()

    def withdraw(self) -> bool:
        """Withdraw an injection that has not landed; False if there is none. Under the lock."""
        self.services.tap.withdraw(self.thread_id)
        error = prepared.get(self.thread_id)
        # It may belong to another one in this thread: a limit, or the invocation around it.
        if error is None or not self.policy.has_made(error):
            return False
        # Withdraw before popping: an injection that lands first still finds its prepared instance.
        self.services.injector.withdraw(self.thread_id)
        return prepared.pop(self.thread_id, None) is not None

    # ---- either's ----------------------------------------------------------------------------

    def report(self, outcome: str, last_resort: str | None = None) -> bool:
        """Write this timeout's record and metric; False if they are written. Thread: any."""
        with self.lock:
            if self.is_reported or self.fired_at is None:
                return False
            self.is_reported = True
        self.services.report.write(self, outcome, last_resort)
        return True
