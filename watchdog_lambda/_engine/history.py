"""The interrupts of one invocation, and the outcome of each.

They are written where an interrupt is made: by a nudge's signal handler in the thread that it lands
in, or by the watchdog's thread under the firing's lock. Any thread may read them.
"""

from __future__ import annotations

import weakref

from watchdog_lambda._cpython.bytecode import catches, protected_by, protected_lines
from watchdog_lambda._cpython.source import innermost, is_ours
from watchdog_lambda.errors import LambdaTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack
    from watchdog_lambda.errors import Landing

    from .clock import Stopwatch

MOST_RECORDS = 20
"""How many interrupts are kept, the first and the last ones: code that swallows them all gets new
ones endlessly."""

_MOST_EXCEPTIONS = 100  # that are examined in one chain


class InterruptRecord:
    """One interrupt, and its outcome."""

    __slots__ = (
        "_catcher",
        "_stopwatch",
        "at",
        "error",
        "landed_at",
        "landed_in",
        "libraries",
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
    ) -> None:
        self.name = type(error).__name__
        self._stopwatch = stopwatch
        self.at = at  # seconds since the start, like landed_at
        self.place = place
        self.wrappers = wrappers
        self.landed_at: float | None = None
        # Where a nudge has raised it: the code and the instruction.
        self.landed_in: tuple[CodeType, int] | None = None
        # The names of the libraries that the thread was in, innermost first.
        self.libraries: tuple[str, ...] = ()
        # Weak: its traceback holds the handler's frames, which we must not keep alive.
        self.error = weakref.ref(error)
        self._catcher: tuple[CodeType, int] | None = None

    def landed(self) -> None:
        """Note that it was raised in its thread. Thread: the handler's."""
        self.landed_at = self._stopwatch.elapsed()

    def died(self, traceback: TracebackType | None) -> None:
        """Note that nothing holds it any more; `traceback` says how far it got. Thread: any."""
        self._catcher = _catcher(traceback)

    def caught_by(self) -> tuple[CodeType, int] | None:
        """Return the outermost code that the interrupt reached, and the offset; None if unknown."""
        error = self.error()
        return self._catcher if error is None else _catcher(error.__traceback__)

    def was_dropped_in_c(self) -> bool:
        """Return whether C code dropped it before the frame that called that code could see it."""
        caught = self.caught_by()
        # Then it got no farther than the nudge's own frame, or C code has dropped its traceback.
        return caught is None or is_ours(caught[0])


def _catcher(traceback: TracebackType | None) -> tuple[CodeType, int] | None:
    # A traceback's first entry is the outermost frame that the exception has reached so far.
    if traceback is None:
        return None
    return traceback.tb_frame.f_code, traceback.tb_lasti


class Interrupts:
    """The interrupts of one invocation, in order."""

    __slots__ = ("_code", "calls", "caught_at", "left_out", "records", "severed_at")

    def __init__(self, code: SourceMap) -> None:
        self._code = code
        self.records: list[InterruptRecord] = []
        self.left_out = 0  # dropped from the middle of the records
        # The libraries that the thread was in at the last look, which may return before the
        # interrupt lands.
        self.calls: tuple[str, ...] = ()
        # The block in which the user's code has caught the timeout, unless it has entered the block
        # again; written by the handler's thread.
        self.caught_at: tuple[CodeType, int] | None = None
        # The places of calls whose waits were severed; written by the watchdog's thread.
        self.severed_at: set[tuple[CodeType, int]] = set()

    def remember(self, record: InterruptRecord) -> None:
        """Add the latest interrupt."""
        self.records.append(record)
        if len(self.records) > MOST_RECORDS:
            del self.records[MOST_RECORDS // 2]
            self.left_out += 1

    def enters(self, place: tuple[CodeType, int]) -> None:
        """Note that the handler enters a `catch_timeout` block. Thread: the handler's.

        A handler that returns to the block in which it has caught the timeout continues as if there
        had been none, so it may be interrupted again.
        """
        if self.caught_at == place:
            self.caught_at = None

    def has_made(self, error: BaseException) -> bool:
        """Return whether `error` itself is one of our interrupts. Thread: any."""
        return any(record.error() is error for record in self.records)

    def involves(self, error: BaseException | None) -> bool:
        """Return whether `error` is one of our interrupts, or was caused by one.

        ``raise X from timeout``, a library's own error raised while it handled ours, and a group
        that contains ours count as this timeout.
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
            pending.extend(getattr(candidate, "exceptions", ()))  # of an exception group
        return False

    def is_replaced(self, error: BaseException) -> bool:
        """Return whether C code has raised `error` for an interrupt, or for a severed wait.

        Such an error comes from the very instruction at which C code has dropped ours (duckdb
        raises a ``RuntimeError`` instead), or at which its connection was shut down.
        """
        raised_at = innermost(error)
        if raised_at is None:
            return False
        origin = raised_at.tb_frame.f_code, raised_at.tb_lasti
        return origin in self.severed_at or any(
            record.landed_in == origin and record.was_dropped_in_c() for record in self.records
        )

    def outcome(self, record: InterruptRecord) -> str:
        """Return ``delivered``, ``swallowed`` (another followed) or ``pending`` (not landed)."""
        if record.landed_at is None:
            return "pending"
        return "delivered" if record is self.records[-1] else "swallowed"

    def is_lost_in_a_wrapper(self) -> bool:
        """Return whether an ``Interrupt`` has left the user's code and was swallowed by a wrapper.

        A ``LambdaTimeout`` does not count: it is a TimeoutError, which a wrapper may answer on
        purpose.
        """
        last = self.records[-1] if self.records else None
        if last is None or last.landed_at is None or last.name == LambdaTimeout.__name__:
            return False
        caught = last.caught_by()
        return caught is not None and (caught[0].co_filename, caught[0].co_name) in last.wrappers

    def is_winding_up(self, frame: FrameType, stack: Stack | None) -> bool:
        """Return whether the user's own code has caught the last interrupt and is now winding up.

        A handler written for the SIGALRM recipe catches the timeout and then flushes, answers, or
        runs a ``finally`` that no longer handles an exception. A loop that swallows the timeout
        looks the same at first, but returns to the block that it was interrupted in.
        """
        caught = self.records[-1].caught_by()
        if caught is None:
            return False
        code, lasti = caught
        handler = protected_by(code, lasti)
        # Without a handler there, it left that frame, and C code farther out dropped it (a task).
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
