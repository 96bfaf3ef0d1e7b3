"""Which interrupt lands next, and when none may.

:meth:`InterruptPolicy.decide` is asked again about every 10 ms from the grace period on, until the
invocation has settled. On the main thread it is asked by the nudge's handler, in the very frame
that an exception would land in, so what it sees is exact. For any other thread the watchdog asks
it, under the firing's lock, about a frame that may have moved on.

No lock is taken in here. On the main thread a nudge can strike inside of an earlier nudge's
decision. Mostly it finds itself in a frame of this package and puts itself off; but a finaliser or
another signal's handler, which can run in the middle of a decision, has frames of its own. So the
firing lets only one decision be under way at a time.
"""

from __future__ import annotations

import sys
import weakref
from _thread import get_ident

from watchdog_lambda._cpython.approach import Approach
from watchdog_lambda._cpython.bytecode import catches, hides_timeout, protected_by, protected_lines
from watchdog_lambda._cpython.loops import running_loop, waits_in_c, with_awaited
from watchdog_lambda._cpython.source import innermost, is_ours
from watchdog_lambda._cpython.stacks import own_stack
from watchdog_lambda._cpython.target_frames import may_be_cut
from watchdog_lambda._cpython.waits import AtRest, waits_in_cleanup, waits_in_exit
from watchdog_lambda.errors import Interrupt, LambdaTimeout, LoopInterrupt

from .rungs import cancels, first_kind, first_kind_from_afar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack
    from watchdog_lambda.details import TimeoutDetails
    from watchdog_lambda.errors import Landing

    from .clock import Stopwatch, Timeline
    from .limited import Limited
    from .rungs import Kind

PAUSE = 0.02
"""Seconds between two interrupts: what the first one set going gets time to show itself."""

BLOCKED, MOVING, TRACED = "blocked", "moving", "traced"
"""How a thread is found: in a call that blocks, on its way, or at a safe point that it has been
traced to. See :mod:`.._cpython.approach`."""

LONGEST_PUT_OFF = 0.05
"""Seconds for which one interrupt may be put off in a place where a blocked thread would leave
something broken, and an injection for a thread that is not in the user's own code."""

PUT_OFF_SHARE = 0.1
"""It is never more than this share of the grace period either."""

LATE_PATIENCE = 1.0
"""Seconds, or the grace period if that is longer, that a cleanup gets beyond the hard deadline if
nobody kills (Managed Instances). One that hangs would otherwise cost a worker for good."""

MOST_RECORDS = 20
"""Interrupts that are remembered, the first and the last: who swallows all gets no end of them."""

_DURABLE = {"DurableExecutionArn", "CheckpointToken"}

_MOST_EXCEPTIONS = 100  # looked at in one chain


def is_durable(event: object) -> bool:
    """Whether this invokes a durable function: there an error is final, and a timeout is retried.

    Told by the event, as Lambda's SDK for durable execution does (3.0.0). No code of the event's
    own is run for it.
    """
    return issubclass(type(event), dict) and dict[object, object].keys(event) >= _DURABLE  # type: ignore[arg-type]


class InterruptRecord:
    """One interrupt, and what became of it."""

    __slots__ = (
        "_catcher",
        "_invocation",
        "_stopwatch",
        "at",
        "error",
        "landed_at",
        "landed_in",
        "name",
        "place",
        "wrappers",
    )

    def __init__(
        self,
        error: Landing,
        at: float,
        place: str,
        wrappers: frozenset[tuple[str, str]],
        stopwatch: Stopwatch,
        *,
        invocation: Limited,
    ) -> None:
        self._invocation = invocation
        self.name = type(error).__name__
        self._stopwatch = stopwatch
        self.at = at  # seconds since the start, as is landed_at
        self.place = place
        self.wrappers = wrappers
        self.landed_at: float | None = None
        # Where it was raised, by a nudge: the code, and the instruction.
        self.landed_in: tuple[CodeType, int] | None = None
        # Weak: the traceback holds the handler's frames, and they are not ours to keep alive.
        self.error = weakref.ref(error)
        self._catcher: tuple[CodeType, int] | None = None

    def landed(self) -> None:
        """It has been raised in its thread. Thread: the handler's."""
        self.landed_at = self._stopwatch.elapsed()

    def landed_by_injection(self, frame: FrameType) -> None:
        """The same, by an injection that has met `frame`. Thread: the handler's."""
        self.landed()
        self._invocation.landed_in(frame)

    def died(self, traceback: TracebackType | None) -> None:
        """Nothing holds it any more; `traceback` says how far it got. Thread: any."""
        self._catcher = _catcher(traceback)

    def caught_by(self) -> tuple[CodeType, int] | None:
        """The code that the interrupt got to, and the offset it came by at; None if unknown."""
        error = self.error()
        return self._catcher if error is None else _catcher(error.__traceback__)

    def was_dropped_in_c(self) -> bool:
        """Whether C code has dropped it before the frame that called that could see it."""
        caught = self.caught_by()
        # The nudge's own frame is as far as it got; C code can keep the traceback apart from it.
        return caught is None or is_ours(caught[0])


def _catcher(traceback: TracebackType | None) -> tuple[CodeType, int] | None:
    # A traceback's first entry is the outermost frame that the exception has reached so far.
    if traceback is None:
        return None
    return traceback.tb_frame.f_code, traceback.tb_lasti


class InterruptPolicy:
    """The interrupts of one invocation: ``LambdaTimeout``, then ``Interrupt`` until it ends.

    Left alone are a shield, the user's cleanup (an ``except``, ``finally`` or ``__exit__`` that
    handles our interrupt, or what was made of it), and a handler that has caught it in its own code
    and goes on to wind up: all of that until last call, and what last call has set going until it
    is killed, or would long have been. An ``__exit__`` that only waits gets half of the time until
    last call. Not left alone is what has swallowed it: a library that retries or goes on to the
    next record, C code that drops it, the user's own code once it is back in the block that it was
    interrupted in.
    """

    __slots__ = (
        "_at_rest",
        "_code",
        "_details",
        "_invocation",
        "_put_off_since",
        "_stopwatch",
        "_thread_id",
        "_timeline",
        "approach",
        "caught_at",
        "is_on_its_way",
        "left_out",
        "records",
        "severed_at",
    )

    def __init__(
        self,
        invocation: Limited,
        thread_id: int,
        timeline: Timeline,
        code: SourceMap,
        stopwatch: Stopwatch,
    ) -> None:
        self._stopwatch = stopwatch
        self._invocation = invocation
        self._thread_id = thread_id
        self._timeline = timeline
        self._code = code
        self._details: TimeoutDetails | None = None  # of the watchdog's thread
        self.records: list[InterruptRecord] = []
        self.left_out = 0  # from the middle of the records
        self._put_off_since: float | None = None
        self.approach = Approach(code, timeline.grace_period)
        self.is_on_its_way = False
        # The block that the user's code has caught the timeout in, and has not entered again since;
        # written by the handler's thread.
        self.caught_at: tuple[CodeType, int] | None = None
        # Where calls were whose waits have been ended; written by the watchdog's thread.
        self.severed_at: set[tuple[CodeType, int]] = set()
        self._at_rest = AtRest()

    @property
    def is_waiting(self) -> bool:
        """Whether :meth:`start` has not been called yet."""
        return self._details is None

    @property
    def is_put_off(self) -> bool:
        """Whether an interrupt that is due has found no place to land in the last time."""
        return self._put_off_since is not None

    def start(self, details: TimeoutDetails) -> None:
        """From now on interrupts may land: the hooks have had their time. Thread: watchdog."""
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
        """The interrupt to land in `frame` now, or None: not now.

        `handled` is the exception that the thread is handling, and `found` says how it was found.
        Who asks for another thread gives its `stack`, for a frame that runs must not be walked.
        Whoever gets an interrupt raises it. ``is_on_its_way`` tells afterwards whether the thread
        is to be traced to the next safe point, where the answer may be another.
        """
        self.is_on_its_way = False
        if not self.is_wanted(now, handled):
            self.leave_alone()
            return None
        if frame is None or is_ours(frame.f_code):
            # Never in our own: settle cannot be torn, a finished result cannot be lost, and a nudge
            # inside of this very function cannot see half of its stores.
            return None
        if self._is_left_alone(now, frame, handled, stack):
            self.leave_alone()
            return None
        if not self._may_land(now, frame, found, from_afar=stack is not None):
            return None
        error = self._make(now, frame, stack)
        # The order matters for a nudge that strikes between these lines in a caller that is not
        # ours, such as a user's signal handler that runs here: the record is complete before it is
        # seen.
        self.records.append(error._witness)  # type: ignore[arg-type]
        if len(self.records) > MOST_RECORDS:
            del self.records[MOST_RECORDS // 2]
            self.left_out += 1
        self.leave_alone()
        return error

    def enters(self, place: tuple[CodeType, int]) -> None:
        """The handler enters a block that catches the timeout. Thread: the handler's.

        A handler that comes back to the block that it has caught the timeout in goes on as if there
        had been none.
        """
        if self.caught_at == place:
            self.caught_at = None

    def leave_alone(self) -> None:
        """No interrupt is due for now: the next one may be put off for as long as the first one.

        Thread: any. The handler's can be in a decision meanwhile, which then goes on with the row
        of put-offs that it has found, or begins another; both are right.
        """
        self._put_off_since = None
        self.approach.restart()

    def is_wanted(self, now: float, handled: BaseException | None) -> bool:
        """Whether an interrupt may be due in a thread that handles `handled`.

        The watchdog asks this before it disturbs the thread; :meth:`decide` looks closer.
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
        if last.landed_at is None:  # injected, on its way: one at a time
            return False
        if now < last.at + PAUSE:
            return False
        # At last call nothing is left alone any more, but what last call itself has set going.
        if last_call and last.at < self._timeline.last_call_at:
            return True
        if not self.involves(handled):
            return True
        if last_call:
            patience = max(self._timeline.grace_period, LATE_PATIENCE)
            return now >= max(self._timeline.limit, last.at) + patience
        # A cleanup is left alone; a wait in the place of one for half of the time that there is.
        return now >= self._timeline.wait_ends(last.at)

    def has_made(self, error: BaseException) -> bool:
        """Whether `error` itself is one of our interrupts. Thread: any."""
        return any(record.error() is error for record in self.records)

    def involves(self, error: BaseException | None) -> bool:
        """Whether `error` is one of our interrupts, or was made of one.

        ``raise X from timeout``, a library's own error raised while ours was handled, and a group
        that holds ours count: it is still this timeout.
        """
        if error is None or not (self.records or self.severed_at):
            return False
        ours = [interrupt for r in self.records if (interrupt := r.error()) is not None]
        pending = [error]
        seen: set[int] = set()
        while pending and len(seen) < _MOST_EXCEPTIONS:
            candidate = pending.pop()
            if id(candidate) in seen:
                continue
            seen.add(id(candidate))
            if any(candidate is interrupt for interrupt in ours) or self.is_replaced(candidate):
                return True
            pending.extend(e for e in (candidate.__cause__, candidate.__context__) if e is not None)
            pending.extend(getattr(candidate, "exceptions", ()))  # of a group
        return False

    def is_replaced(self, error: BaseException) -> bool:
        """Whether C code has raised `error` in the place of an interrupt, or of its own wait.

        It comes from the very instruction at which C code has dropped ours (duckdb makes a
        ``RuntimeError`` of it), or at which its connection was shut down under it.
        """
        raised_at = innermost(error)
        if raised_at is None:
            return False
        origin = raised_at.tb_frame.f_code, raised_at.tb_lasti
        return origin in self.severed_at or any(
            record.landed_in == origin and record.was_dropped_in_c() for record in self.records
        )

    def outcome(self, record: InterruptRecord) -> str:
        """``delivered``, ``swallowed`` (another had to follow) or ``pending`` (has not landed)."""
        if record.landed_at is None:
            return "pending"
        return "delivered" if record is self.records[-1] else "swallowed"

    def is_lost_in_a_wrapper(self) -> bool:
        """Whether an ``Interrupt`` has gone through the user's code, to be swallowed around it.

        A ``LambdaTimeout`` does not count: it is a TimeoutError, which a wrapper may mean to
        answer.
        """
        last = self.records[-1] if self.records else None
        if last is None or last.landed_at is None or last.name == LambdaTimeout.__name__:
            return False
        caught = last.caught_by()
        return caught is not None and (caught[0].co_filename, caught[0].co_name) in last.wrappers

    def first_message(self) -> str:
        """The first interrupt's message: where the handler was when its time was up."""
        if not self.records and self._details is not None:
            # None has landed: a wait was ended, and the handler left with what came of that.
            return self._invocation.message(self._details.elapsed, self._details.location)
        first = self.records[0]
        return self._invocation.message(first.at, first.place)

    def _is_left_alone(
        self, now: float, frame: FrameType, handled: BaseException | None, stack: Stack | None
    ) -> bool:
        """Whether the handler is in the middle of an end that an earlier interrupt has begun."""
        if now >= self._timeline.last_call_at or not self.records:
            return False
        if self.involves(handled):
            # A wait in the place of a cleanup; see is_wanted.
            waits = (
                waits_in_cleanup(frame, self._code)
                if stack is None
                else waits_in_exit(stack, self._code)
            )
            return not waits or not self._at_rest.is_certain()
        return self.caught_at is not None or self._is_winding_up(frame, stack)

    def _may_land(self, now: float, frame: FrameType, found: str, *, from_afar: bool) -> bool:
        if found == TRACED:
            return True
        longest = min(LONGEST_PUT_OFF, self._timeline.grace_period * PUT_OFF_SHARE)
        has_waited = now >= self._row_since(now) + longest
        if from_afar:
            allows = self.approach.frames.allows_from_afar(frame)
            return allows is True or (allows is not None and has_waited)
        if found == BLOCKED:
            return has_waited or may_be_cut(frame)
        is_last_call = now >= self._timeline.last_call_at
        self.is_on_its_way = not self.approach.allows(frame, is_last_call=is_last_call)
        return not self.is_on_its_way

    def _row_since(self, now: float) -> float:
        """When the row of put-offs began that goes on or begins now."""
        # Read once: the watchdog can end the row meanwhile.
        since = self._put_off_since
        if since is None:
            since = self._put_off_since = now
        return since

    def _is_winding_up(self, frame: FrameType, stack: Stack | None) -> bool:
        """Whether the last one was caught by the user's own code, which now goes on to an end.

        A handler written for the SIGALRM recipe catches the timeout and then flushes, answers or
        runs a ``finally`` that is not handling anything any more. A loop that swallows looks the
        same at first, but comes back to the block that it was interrupted in.
        """
        caught = self.records[-1].caught_by()
        if caught is None:
            return False
        code, lasti = caught
        handler = protected_by(code, lasti)
        # No handler there: it left that frame, and C code further out dropped it (a task's, say).
        if handler is None or not catches(code, handler) or not self._code.is_own(code.co_filename):
            return False
        if stack is not None:
            lines = protected_lines(code, handler)
            place = (code.co_filename, code.co_name)
            return not any((f, name) == place and line in lines for f, line, name in stack)
        inner: FrameType | None = frame
        while inner is not None:
            if inner.f_code is code and protected_by(code, inner.f_lasti) == handler:
                return False
            inner = inner.f_back
        return True

    def _make(self, now: float, frame: FrameType, afar: Stack | None) -> Landing:
        stack = own_stack(frame) if afar is None else afar
        kind = self._kind(frame, stack, from_afar=afar is not None)
        place = self._code.location(with_awaited(stack, self._thread_id, self._code))
        error = kind(self._invocation.message(now, place))
        error.details = self._details
        wrappers = self._code.wrappers(stack)
        error._witness = record = InterruptRecord(
            error, now, place, wrappers, self._stopwatch, invocation=self._invocation
        )
        if afar is None:
            record.landed_in = frame.f_code, frame.f_lasti
        return error

    def _kind(self, frame: FrameType, stack: Stack, *, from_afar: bool) -> Kind:
        if get_ident() == self._thread_id and waits_in_c():
            return LoopInterrupt
        if self.records:
            is_cancelled = not from_afar and cancels(frame, self._code)
            return LoopInterrupt if is_cancelled or self._has_loop() else Interrupt
        # In such a frame the handler would not learn of its timeout, and could end before the
        # next interrupt, with a result that it has not got.
        hidden = bool(stack) and hides_timeout(stack[0][0], stack[0][2])
        kind = (
            first_kind_from_afar(stack, self._code) if from_afar else first_kind(frame, self._code)
        )
        base = hidden or self._invocation.plan.settings.interrupt == "base"
        if kind is not LambdaTimeout:
            return kind
        return Interrupt if base else self._invocation.first_kind

    def _has_loop(self) -> bool:
        if "gevent" in sys.modules:
            return True
        if get_ident() == self._thread_id:
            return running_loop() is not None
        # Only the thread itself can be asked for its loop; for another one, better a
        # KeyboardInterrupt too many than an interrupt that its loop stores away.
        return "asyncio" in sys.modules
