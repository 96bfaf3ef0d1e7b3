"""User code on threads of its own, within a bound: one call, and the hooks of one stage.

Python cannot end a thread. So the caller goes on when the bound is reached, and code that hangs for
good goes on as a daemon thread.

The lock of a :class:`Stage` guards its records and whether it is closed. It is held for a few
stores, never around user code.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from functools import partial

from watchdog_lambda._cpython.source import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from watchdog_lambda._hooks import Hook
    from watchdog_lambda.details import TimeoutDetails

    from .clock import Alarm, Stopwatch


class BoundedCall:
    """One call of user code on a thread of its own.

    What it has come to stands in ``has_returned``, ``result``, ``error`` and ``place`` once
    :meth:`has_ended`. Of an exception only its type's name and its place are kept: the exception
    itself would keep the frames alive that it went through, and its message may quote the event.
    """

    __slots__ = ("_ended", "_function", "error", "has_returned", "place", "result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._ended = allocate_lock()  # taken until the function has ended
        self._ended.acquire()
        self.has_returned = False
        self.result: Any = None
        self.error = self.place = ""

    def run(self) -> None:
        """Call the function. Thread: the one that is made for it."""
        try:
            self.result = self._function()
            self.has_returned = True
        except BaseException as error:  # noqa: BLE001 - recorded; SystemExit would end this thread only
            self.error = type(error).__name__
            self.place = place_of(error)
        finally:
            self._ended.release()

    def has_ended(self) -> bool:
        """Whether the function has returned or raised. Thread: any."""
        return not self._ended.locked()

    def wait(self, seconds: float = -1) -> bool:
        """Wait until it has ended, so many seconds at most; whether it has. Thread: any."""
        if has_ended := self._ended.acquire(True, seconds):
            self._ended.release()
        return has_ended


def call_bounded(
    function: Callable[[], Any],
    seconds: float,
    within: Callable[[Callable[[], None]], object] | None = None,
) -> BoundedCall:
    """Call user code on a thread of its own, and wait no longer than `seconds` for its end.

    `within` is what the thread runs the call in, such as a ``contextvars`` context's ``run``.

    Raises:
        RuntimeError: no thread can be started (or MemoryError).
    """
    call = BoundedCall(function)
    if within is None:
        start_new_thread(call.run, ())
    else:
        start_new_thread(within, (call.run,))
    call.wait(max(0.0, seconds))
    return call


class HookRecord:
    """What became of one hook in one timeout."""

    __slots__ = ("duration", "error", "name", "outcome", "started")

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcome = "not-run"  # then: running; then: ok, raised or timed-out
        self.started: float | None = None  # seconds since the start
        self.duration = 0.0  # seconds, so far
        self.error: str | None = None  # type and place, never the message: it may quote the event

    def as_dict(self) -> dict[str, Any]:
        """For the log."""
        record: dict[str, Any] = {
            "name": self.name,
            "outcome": self.outcome,
            "after_ms": None if self.started is None else round(self.started * 1000),
            "duration_ms": round(self.duration * 1000, 1),
        }
        if self.error is not None:
            record["error"] = self.error
        return record


class Stage:
    """The hooks of one stage, one after the other, each on a thread of its own.

    They share one budget. A runner, which is a thread too, starts each hook and gives it an equal
    share of what is left; then it starts the next one beside it, so that a hook that hangs stops no
    other. All times are in seconds since the stopwatch's start.
    """

    __slots__ = (
        "_are_all_begun",
        "_done",
        "_elapsed",
        "_hooks",
        "_is_closed",
        "_lock",
        "_ring",
        "_woken",
        "details",
        "ends_at",
        "records",
    )

    def __init__(
        self,
        hooks: Sequence[Hook],
        details: TimeoutDetails | None,
        budget: float,
        stopwatch: Stopwatch,
        ring: Callable[[], None],
    ) -> None:
        self._hooks = hooks
        self.details = details  # what the hooks are given
        self._elapsed = stopwatch.elapsed
        self._ring = ring  # called at the stage's end: the watchdog may have waited for it
        self._woken: Alarm = stopwatch.clock.make_alarm()  # the runner sleeps on it
        self.records = [HookRecord(hook.name) for hook in hooks]
        self._lock = allocate_lock()
        self._are_all_begun = False  # guarded by _lock: no other hook will be started
        self._is_closed = False  # guarded by _lock
        self._done = allocate_lock()  # taken until every hook has ended
        self._done.acquire()
        self.ends_at = stopwatch.elapsed() + budget

    def begin(self) -> None:
        """Start the runner. Thread: watchdog."""
        if self._hooks:
            try:
                start_new_thread(self._run, ())
            except (RuntimeError, MemoryError):
                pass  # no more threads to be had: the records say not-run
            else:
                return
        self._done.release()

    def has_ended(self) -> bool:
        """Whether every hook has ended. Thread: any."""
        return not self._done.locked()

    def is_over(self) -> bool:
        """Whether nothing is left to wait for: all hooks ended, or the budget did. Thread: any."""
        return self.has_ended() or self._elapsed() >= self.ends_at

    def wake(self) -> None:
        """Have the runner look at the time anew. Thread: any."""
        self._woken.ring()

    def wait(self) -> None:
        """Wait until the stage is over. Thread: the handler's, after it has closed."""
        if self._done.acquire(True, max(0.0, self.ends_at - self._elapsed())):
            self._done.release()

    def close(self) -> None:
        """Start no further hook, and judge those that still run. Thread: handler's or watchdog."""
        with self._lock:
            self._is_closed = True
            for record in self.records:
                if record.outcome == "running" and record.started is not None:
                    record.outcome = "timed-out"
                    record.duration = self._elapsed() - record.started
        self._woken.ring()

    def _run(self) -> None:
        """Start one hook after the other. Thread: the runner."""
        for index in range(len(self._hooks)):
            call = self._begin_hook(index)
            if call is None:
                return
            now = self._elapsed()
            share_ends_at = now + (self.ends_at - now) / (len(self._hooks) - index)
            while not (call.has_ended() or self._is_closed):
                left = share_ends_at - self._elapsed()
                if left <= 0:
                    break
                self._woken.wait(left)

    def _begin_hook(self, index: int) -> BoundedCall | None:
        """Start one hook; None if neither it nor a later one is to be started any more."""
        record = self.records[index]
        try:
            call = BoundedCall(partial(self._hooks[index].call, self.details))
            with self._lock:
                now = self._elapsed()
                if self._is_closed or now >= self.ends_at:
                    return None
                record.started = now
                record.outcome = "running"
                self._are_all_begun = index == len(self._hooks) - 1
            start_new_thread(self._call, (call, record))
        except (RuntimeError, MemoryError):
            # No more threads to be had: the records say not-run.
            with self._lock:
                record.started = None
                record.outcome = "not-run"
                self._are_all_begun = True
                self._finish_if_all_have_ended()
            return None
        return call

    def _call(self, call: BoundedCall, record: HookRecord) -> None:
        """Run one hook, and note what became of it. Thread: the hook's own."""
        call.run()
        with self._lock:
            if record.outcome == "running" and record.started is not None:
                record.outcome = "ok" if call.has_returned else "raised"
                if not call.has_returned:
                    record.error = f"{call.error} in {call.place}" if call.place else call.error
                record.duration = self._elapsed() - record.started
            self._finish_if_all_have_ended()
        self._woken.ring()

    def _finish_if_all_have_ended(self) -> None:
        # With the lock held.
        has_ended = self._are_all_begun and all(r.outcome != "running" for r in self.records)
        if has_ended and self._done.locked():
            self._done.release()
            self._ring()
