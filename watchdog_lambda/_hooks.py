"""Shutdown hooks: the registry, and running one stage of them within a budget.

Rules of the lock in :class:`StageRun`: it guards who runs the next hook and each hook's record; it
is held for a few stores, never around a hook, and never by user code.
"""

from __future__ import annotations

import itertools
from _thread import allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._engine.clock import Alarm, Clock
    from .details import TimeoutDetails

    Call = Callable[[Any], object]
    """Of TimeoutDetails; of None for a sandbox's hook, which has none."""

_order = itertools.count()  # one for all registries: last registered first holds across them


class Hook:
    """One registered hook."""

    __slots__ = ("before", "call", "key", "name")

    def __init__(self, key: int, name: str, call: Call, before: float | None) -> None:
        self.key = key
        self.name = name
        self.call = call
        self.before = (
            before  # seconds ahead of the hard deadline; None: when the grace period begins
        )


staged: dict[int, Hook] = {}
"""The registered hooks that have a stage of their own; empty for most, which the hot path asks."""


class HookRegistry:
    """Hooks, by order of registration. Any thread may add and remove; the watchdog copies."""

    __slots__ = ("_hooks",)

    def __init__(self) -> None:
        # A dict, because single stores, deletions and list() of it are atomic: no lock that a
        # handler could be interrupted in while the watchdog wants it.
        self._hooks: dict[int, Hook] = {}

    def add(self, name: str, call: Call, before: float | None = None) -> int:
        """Register, and return the key to remove it with."""
        key = next(_order)
        hook = self._hooks[key] = Hook(key, name, call, before)
        if before is not None:
            staged[key] = hook
        return key

    def remove(self, key: int) -> None:
        """Forget a hook; nothing, if it is gone already."""
        self._hooks.pop(key, None)
        staged.pop(key, None)

    def snapshot(self) -> list[Hook]:
        return list(self._hooks.values())


def stages(registries: Iterable[HookRegistry]) -> dict[float | None, list[Hook]]:
    """The hooks by ``before``, each stage with the last registered first."""
    hooks = sorted(
        (hook for registry in registries for hook in registry.snapshot()),
        key=lambda hook: hook.key,
        reverse=True,
    )
    staged: dict[float | None, list[Hook]] = {}
    for hook in hooks:
        staged.setdefault(hook.before, []).append(hook)
    return staged


class HookRecord:
    """What became of one hook in one timeout."""

    __slots__ = ("duration", "error", "name", "outcome", "started")

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcome = "not-run"  # then: running; then: ok, raised or timed-out
        self.started: float | None = None
        self.duration = 0.0  # seconds, so far
        self.error: str | None = None  # type and place, never the message: it may quote the event

    def as_dict(self, since: float) -> dict[str, Any]:
        """For the log; when the hook began is told in relation to `since`."""
        after = None if self.started is None else round((self.started - since) * 1000)
        record: dict[str, Any] = {
            "name": self.name,
            "outcome": self.outcome,
            "after_ms": after,
            "duration_ms": round(self.duration * 1000, 1),
        }
        if self.error is not None:
            record["error"] = self.error
        return record


class StageRun:
    """The hooks of one stage, run one after the other on a thread of their own.

    They share one budget. Each may take an equal part of what is left of it; then the next one is
    started beside it, so that a hook that hangs stops no other. Python cannot end a thread: one
    that hangs for good stays behind, as a daemon.
    """

    __slots__ = (
        "_alarm",
        "_clock",
        "_details",
        "_done",
        "_hooks",
        "_lock",
        "_next",
        "_runner",
        "_takeover_at",
        "ends_at",
        "records",
    )

    def __init__(
        self,
        hooks: list[Hook],
        details: TimeoutDetails | None,
        budget: float,
        clock: Clock,
        alarm: Alarm,
    ) -> None:
        self._hooks = hooks
        self._details = details
        self._clock = clock
        self._alarm = alarm  # rung at each hook's end: the watchdog may have waited for that
        self.records = [HookRecord(hook.name) for hook in hooks]
        self._lock = allocate_lock()
        self._next = 0  # guarded by _lock
        self._runner = 0  # guarded by _lock; the runner that may take the next hook
        self._done = allocate_lock()  # taken until every hook has ended
        self._done.acquire()
        self.ends_at = clock.monotonic() + budget
        self._takeover_at = self.ends_at

    def begin(self) -> None:
        """Start the first hook. Thread: watchdog."""
        if not self._hooks:
            self._done.release()
            return
        self._hand_over()

    def is_over(self) -> bool:
        """Whether nothing is left to wait for: all hooks ended, or the budget did. Thread: any."""
        return not self._done.locked() or self._clock.monotonic() >= self.ends_at

    def step(self, now: float) -> float:
        """Start the next hook if the one under way has had its part; when to look again.

        Thread: watchdog.
        """
        if now >= self._takeover_at and now < self.ends_at:
            self._hand_over()
        return min(self._takeover_at, self.ends_at)

    def wait(self) -> None:
        """Wait until the stage is over. Thread: the handler's, after it has closed."""
        if self._done.acquire(True, max(0.0, self.ends_at - self._clock.monotonic())):
            self._done.release()

    def close(self) -> None:
        """Take no further hook, and judge those that still run. Thread: handler's or watchdog."""
        with self._lock:
            self._runner += 1
            for record in self.records:
                if record.outcome == "running" and record.started is not None:
                    record.outcome = "timed-out"
                    record.duration = self._clock.monotonic() - record.started

    def _hand_over(self) -> None:
        """Start a runner for the hooks that have not begun; the one before takes no more."""
        with self._lock:
            left = len(self._hooks) - self._next
            if not left:
                self._takeover_at = self.ends_at
                return
            self._runner += 1
            runner = self._runner
            self._share(left)
        try:
            start_new_thread(self._run, (runner,))
        except (RuntimeError, MemoryError):  # no more threads to be had: the records say not-run
            self._takeover_at = self.ends_at

    def _share(self, left: int) -> None:
        now = self._clock.monotonic()
        self._takeover_at = now + (self.ends_at - now) / left

    def _run(self, runner: int) -> None:
        while True:
            with self._lock:
                if runner != self._runner or self._next >= len(self._hooks):
                    return
                index = self._next
                self._next += 1
                record = self.records[index]
                record.outcome = "running"
                started = record.started = self._clock.monotonic()
                self._share(len(self._hooks) - index)
            error = self._call(self._hooks[index])
            with self._lock:
                if record.outcome == "running":
                    record.outcome = "ok" if error is None else "raised"
                    record.error = error
                    record.duration = self._clock.monotonic() - started
                if all(r.outcome not in {"not-run", "running"} for r in self.records):
                    self._finish()
            self._alarm.ring()

    def _finish(self) -> None:
        if self._done.locked():
            self._done.release()

    def _call(self, hook: Hook) -> str | None:
        """Call one hook; a description of what it raised, if it did."""
        try:
            hook.call(self._details)
        except BaseException as error:  # noqa: BLE001 - recorded; a hook stops nobody, SystemExit neither
            traceback = error.__traceback__
            while traceback is not None and traceback.tb_next is not None:
                traceback = traceback.tb_next
            where = ""
            if traceback is not None:  # pragma: no branch - what was raised has one
                code = traceback.tb_frame.f_code
                file = code.co_filename.rpartition("/")[2]
                where = f" in {file}:{traceback.tb_lineno} ({code.co_name})"
            return type(error).__name__ + where
        return None


def hook_name(function: object) -> str:
    """``module.function``, as well as it can be told."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"{module}.{name}" if module else str(name)
