"""Decides which interrupt lands next, and when none may.

From the grace period on, :meth:`InterruptPolicy.decide` is called about every 10 ms until the
invocation has settled. On the main thread the nudge's signal handler calls it, in the very frame
that an exception would land in, so what it sees is exact. For any other thread the watchdog calls
it, under the firing's lock, about a frame that may have moved on.

No lock is taken in here. On the main thread a nudge can arrive during an earlier nudge's decision.
Mostly it finds a frame of this package and defers itself. But a finaliser or another signal
handler, which can run in the middle of a decision, has its own frames. So the firing allows only
one decision at a time.
"""

from __future__ import annotations

from _thread import get_ident

from watchdog_lambda._cpython.approach import Approach
from watchdog_lambda._cpython.loops import cleans_up, with_awaited
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._cpython.stacks import own_stack
from watchdog_lambda._cpython.target_frames import may_be_cut
from watchdog_lambda._cpython.waits import AtRest
from watchdog_lambda.errors import Interrupt, LambdaTimeout

from .history import InterruptRecord, Interrupts
from .rungs import libraries_in, next_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack
    from watchdog_lambda.details import TimeoutDetails
    from watchdog_lambda.errors import Landing

    from .clock import Stopwatch, Timeline
    from .timed import Timed

PAUSE = 0.02
"""Seconds between two interrupts, in which the reaction to the first one can become visible."""

BLOCKED, MOVING, TAPPED, TRACED = "blocked", "moving", "tapped", "traced"
"""How a thread is found: in a blocking call, running, between calls, or traced to a safe point."""

LONGEST_PUT_OFF = 0.05
"""Seconds for which an interrupt may be deferred if it would break something in a blocked thread,
and an injection if the thread is not in the user's own code."""

PUT_OFF_SHARE = 0.1
"""The deferral is never more than this share of the grace period."""

LATE_PATIENCE = 1.0
"""Seconds, or the grace period if that is longer, for a cleanup after the hard deadline without a
kill (Managed Instances). A cleanup that hangs would cost a worker permanently."""


class InterruptPolicy(Interrupts):
    """The interrupts of one invocation: ``LambdaTimeout``, then ``Interrupt`` until it ends.

    The following are not interrupted before last call: a shield; the user's cleanup (an ``except``,
    ``finally`` or ``__exit__`` that handles our interrupt, or an error caused by it); and a handler
    that has caught the interrupt in its own code and winds up. The cleanup of last call's interrupt
    is not interrupted until the kill, or until long after it was due. An ``__exit__`` that only
    waits gets half of the time until last call. Code that has swallowed an interrupt gets another
    one: a library that retries or continues with the next record, C code that drops it, and the
    user's own code once it is back in the block that it was interrupted in.
    """

    # fmt: off
    __slots__ = (
        "_at_rest", "_details", "_invocation", "_put_off_since", "_stopwatch",
        "_thread_id", "_timeline", "approach", "is_on_its_way",
    )
    # fmt: on

    def __init__(
        self,
        invocation: Timed,
        thread_id: int,
        timeline: Timeline,
        code: SourceMap,
        stopwatch: Stopwatch,
    ) -> None:
        super().__init__(code)
        self._stopwatch = stopwatch
        self._invocation = invocation
        self._thread_id = thread_id
        self._timeline = timeline
        self._details: TimeoutDetails | None = None  # written by the watchdog's thread
        self._put_off_since: float | None = None
        self.approach = Approach(code, timeline.grace_period)
        self.is_on_its_way = False
        self._at_rest = AtRest()

    @property
    def is_waiting(self) -> bool:
        """Whether :meth:`start` has not been called yet."""
        return self._details is None

    @property
    def is_put_off(self) -> bool:
        """Whether a due interrupt has recently found no place to land."""
        return self._put_off_since is not None

    def start(self, details: TimeoutDetails) -> None:
        """Allow interrupts from now on: the hooks have had their time. Thread: watchdog."""
        self._details = details

    def decide(
        self,
        now: float,
        frame: FrameType | None,
        handled: BaseException | None,
        *,
        stack: Stack | None = None,
        found: str = BLOCKED,
    ) -> Landing | None:
        """Return the interrupt to land in `frame` now; None: not now.

        `handled` is the exception that the thread is handling, and `found` says how the thread was
        found. A caller that asks for another thread passes its `stack`, because a running frame
        must not be walked. The caller raises the interrupt. Afterwards ``is_on_its_way`` says
        whether to trace the thread to the next safe point, where the decision may be different.
        """
        self.is_on_its_way = False
        if not self.is_wanted(now, handled):
            self.leave_alone()
            return None
        if frame is None or is_ours(frame.f_code):
            # Never in our own frames. So settle cannot be interrupted, a finished result cannot be
            # lost, and a nudge inside this very function cannot see half of its stores.
            return None
        if self._is_left_alone(now, frame, handled, stack):
            self.leave_alone()
            return None
        if not self._may_land(now, frame, found, from_afar=stack is not None):
            return None
        error = self._make(now, frame, stack)
        # The order matters for a nudge that arrives between these lines in code that is not ours,
        # such as a user's signal handler that runs here: the record is complete before it is seen.
        self.remember(error._witness)  # type: ignore[arg-type]
        self.leave_alone()
        return error

    def leave_alone(self) -> None:
        """End the current deferral: no interrupt is due now, so the next one may be deferred anew.

        Thread: any. The handler's thread may be in a decision at this time, which then continues
        the deferral that it has read, or begins a new one; both are correct.
        """
        self._put_off_since = None
        self.approach.restart()

    def is_wanted(self, now: float, handled: BaseException | None) -> bool:
        """Return whether an interrupt may be due in a thread that is handling `handled`.

        The watchdog calls this before it disturbs the thread; :meth:`decide` checks more.
        """
        invocation = self._invocation
        if not invocation.is_open or self._details is None:
            return False
        last_call = now >= self._timeline.last_call_at
        if invocation.shields and not last_call:
            return False
        if not self.records:
            return True
        last = self.records[-1]
        if last.landed_at is None:  # an injection is pending: only one at a time
            return False
        if now < last.at + PAUSE:
            return False
        # At last call everything is interrupted, except the cleanup of last call's own interrupt.
        if last_call and last.at < self._timeline.last_call_at:
            return True
        if not self.involves(handled):
            return True
        if last_call:
            patience = max(self._timeline.grace_period, LATE_PATIENCE)
            return now >= max(self._timeline.limit, last.at) + patience
        # A cleanup is not interrupted; one that may only wait gets half of the time.
        return now >= self._timeline.wait_ends(last.at)

    def first_message(self) -> str:
        """Return the first interrupt's message, which says where the handler was."""
        if not self.records and self._details is not None:
            # No interrupt was made: a wait was severed, and the handler ended with the error.
            return self._invocation.message(self._details.elapsed, self._details.location)
        first = self.records[0]
        return self._invocation.message(first.at, first.place)

    def _is_left_alone(
        self, now: float, frame: FrameType, handled: BaseException | None, stack: Stack | None
    ) -> bool:
        """Return whether the handler is ending because of an earlier interrupt."""
        if now >= self._timeline.last_call_at or not self.records:
            return False
        if self.involves(handled):
            return not self._at_rest.waits(frame, stack, self._code)
        if self.caught_at is not None or self.is_winding_up(frame, stack):
            return True
        # A task group whose task was interrupted waits for the cleanups of the other tasks first.
        return stack is None and now < self._timeline.wait_ends(self.records[-1].at) and cleans_up()

    def _may_land(self, now: float, frame: FrameType, found: str, *, from_afar: bool) -> bool:
        if found == TRACED:
            return True
        longest = min(LONGEST_PUT_OFF, self._timeline.grace_period * PUT_OFF_SHARE)
        since = self._put_off_since  # read once: the watchdog can reset it at any time
        if since is None:
            since = self._put_off_since = now
        has_waited = now >= since + longest
        self.calls = () if from_afar else libraries_in(own_stack(frame), self._code)
        if from_afar:
            allows = self.approach.frames.allows_from_afar(frame)
            return allows is True or (allows is not None and has_waited)
        if found == BLOCKED:
            return has_waited or may_be_cut(frame)
        self.is_on_its_way = not self.approach.allows(
            frame,
            is_last_call=now >= self._timeline.last_call_at,
            is_late=now >= self._timeline.limit,
            has_waited=has_waited and found == TAPPED,
        )
        return not self.is_on_its_way

    def _make(self, now: float, frame: FrameType, afar: Stack | None) -> Landing:
        stack = own_stack(frame) if afar is None else afar
        kind = next_kind(
            frame,
            stack,
            self._code,
            from_afar=afar is not None,
            is_own_thread=get_ident() == self._thread_id,
            has_begun=bool(self.records),
        )
        if kind is LambdaTimeout:
            is_base = self._invocation.plan.settings.interrupt == "base"
            kind = Interrupt if is_base else self._invocation.first_kind
        awaited = with_awaited(stack, self._thread_id, self._code)
        place = self._code.location(awaited)
        error = kind(self._invocation.message(now, place))
        error.details = self._details
        wrappers = self._code.wrappers(stack)
        error._witness = record = InterruptRecord(error, now, place, wrappers, self._stopwatch)
        record.libraries = libraries_in(awaited, self._code) or self.calls
        if afar is None:
            record.landed_in = frame.f_code, frame.f_lasti
        return error
