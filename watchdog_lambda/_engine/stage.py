"""Runs user code on separate threads, with a time limit: one call, or the hooks of one stage.

Python cannot end a thread. So the caller continues when the time is up, and code that hangs forever
continues as a daemon thread.

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
    """One call of user code on its own thread.

    Once :meth:`has_ended` is true, the outcome is in ``has_returned``, ``result``, ``error`` and
    ``place``. Only the type and the place of an exception are kept: the exception itself would keep
    the frames alive that it passed, and its message may quote the event.
    """

    __slots__ = ("_ended", "_function", "error", "has_returned", "place", "result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._ended = allocate_lock()  # held until the function has ended
        self._ended.acquire()
        self.has_returned = False
        self.result: Any = None
        self.error = self.place = ""

    def run(self) -> None:
        """Call the function. Thread: the one started for it."""
        try:
            self.result = self._function()
            self.has_returned = True
        except BaseException as error:  # noqa: BLE001 - recorded; SystemExit would only end this thread
            self.error = type(error).__name__
            self.place = place_of(error)
        finally:
            self._ended.release()

    def has_ended(self) -> bool:
        """Return whether the function has returned or raised. Thread: any."""
        return not self._ended.locked()

    def wait(self, seconds: float = -1) -> bool:
        """Wait at most `seconds` for its end. Return whether it has ended. Thread: any."""
        if has_ended := self._ended.acquire(True, seconds):
            self._ended.release()
        return has_ended


def call_bounded(
    function: Callable[[], Any],
    seconds: float,
    within: Callable[[Callable[[], None]], object] | None = None,
) -> BoundedCall:
    """Call user code on its own thread, and wait at most `seconds` for its end.

    `within` is a function that runs the call, such as ``run`` of a ``contextvars`` context.

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
    """The outcome of one hook in one timeout."""

    __slots__ = ("duration", "error", "name", "outcome", "started")

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcome = "not-run"  # then: running; then: ok, raised or timed-out
        self.started: float | None = None  # seconds since the start
        self.duration = 0.0  # seconds, so far
        self.error: str | None = None  # type and place, never the message: it may quote the event

    def as_dict(self) -> dict[str, Any]:
        """Return the record for the log."""
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
    """The hooks of one stage, one after the other, each on its own thread.

    They share one budget. A runner, which is also a thread, starts each hook and waits for it, for
    an equal share of the budget that is left. Then it starts the next one, even if the hook still
    hangs, so that no hook stops the others. All times are in seconds since the stopwatch's start.
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
        self.details = details  # the hooks' argument
        self._elapsed = stopwatch.elapsed
        self._ring = ring  # called at the stage's end, for which the watchdog may be waiting
        self._woken: Alarm = stopwatch.clock.make_alarm()  # the runner sleeps on it
        self.records = [HookRecord(hook.name) for hook in hooks]
        self._lock = allocate_lock()
        self._are_all_begun = False  # no further hook will be started; guarded by _lock
        self._is_closed = False  # guarded by _lock
        self._done = allocate_lock()  # held until every hook has ended
        self._done.acquire()
        self.ends_at = stopwatch.elapsed() + budget

    def begin(self) -> None:
        """Start the runner. Thread: watchdog."""
        if self._hooks:
            try:
                start_new_thread(self._run, ())
            except (RuntimeError, MemoryError):
                pass  # no thread can be started: the records say not-run
            else:
                return
        self._done.release()

    def has_ended(self) -> bool:
        """Return whether every hook has ended. Thread: any."""
        return not self._done.locked()

    def is_over(self) -> bool:
        """Return whether all hooks have ended, or the budget is used up. Thread: any."""
        return self.has_ended() or self._elapsed() >= self.ends_at

    def wake(self) -> None:
        """Make the runner check the time again. Thread: any."""
        self._woken.ring()

    def wait(self) -> None:
        """Wait until the stage is over. Thread: the handler's, after it has closed."""
        if self._done.acquire(True, max(0.0, self.ends_at - self._elapsed())):
            self._done.release()

    def close(self) -> None:
        """Start no further hook, and mark running ones as timed out. Thread: handler's."""
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
        """Start one hook; None if neither this nor a later hook may be started any more."""
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
            # No thread can be started: the records say not-run.
            with self._lock:
                record.started = None
                record.outcome = "not-run"
                self._are_all_begun = True
                self._finish_if_all_have_ended()
            return None
        return call

    def _call(self, call: BoundedCall, record: HookRecord) -> None:
        """Run one hook, and note its outcome. Thread: the hook's own."""
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
        # Call this with the lock held.
        has_ended = self._are_all_begun and all(r.outcome != "running" for r in self.records)
        if has_ended and self._done.locked():
            self._done.release()
            self._ring()
