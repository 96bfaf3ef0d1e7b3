"""Tests of hooks: their order, isolation, budget and registration."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.support import BOUND, Context, eventually
from watchdog_lambda import TimeoutDetails, Watchdog, _hooks, scoped_hook, shutdown_hook, watch
from watchdog_lambda._engine.clock import Stopwatch, SystemClock
from watchdog_lambda._engine.stage import HookRecord, Stage
from watchdog_lambda._hooks import Hook, HookRegistry, hook_name, stages
from watchdog_lambda.testing import expire

if TYPE_CHECKING:
    from collections.abc import Callable

DETAILS = TimeoutDetails(deadline=0.0, elapsed=0.0, grace_period=0.0)


def run(*calls: Callable[[TimeoutDetails], object], budget: float = 1.0) -> Stage:
    """Run hooks as the watchdog does, and wait for their end."""
    hooks = [Hook(n, f"hook-{n}", call, None) for n, call in enumerate(calls)]
    stage = Stage(hooks, DETAILS, budget, Stopwatch(SystemClock(), time.monotonic()), lambda: None)
    stage.begin()
    stage.wait()
    stage.close()
    return stage


def test_last_registered_runs_first_within_its_stage() -> None:
    """The hook that was registered last runs first within its stage, across registries.

    So does atexit.
    """
    shared, own = HookRegistry(), HookRegistry()
    shared.add("first", print)
    own.add("second", print)
    shared.add("third", print)
    early = shared.add("early", print, before=10.0)
    try:
        by_stage = stages((own, shared))
    finally:
        shared.remove(early)

    assert [hook.name for hook in by_stage[None]] == ["third", "second", "first"]
    assert [hook.name for hook in by_stage[10.0]] == ["early"]


def test_raising_hook_does_not_stop_others() -> None:
    """A hook that raises, even SystemExit, stops no other.

    Its record has the error's type and place, without the message.
    """
    called: list[str] = []

    def leave(_details: TimeoutDetails) -> None:
        raise SystemExit("secret of the event")

    def fail(_details: TimeoutDetails) -> None:
        raise ValueError("secret of the event")

    stage = run(leave, fail, lambda _d: called.append("last"))

    assert called == ["last"]
    assert [r.outcome for r in stage.records] == ["raised", "raised", "ok"]
    starts = [r.as_dict()["after_ms"] for r in stage.records]
    assert starts == sorted(starts)
    assert 0 <= starts[0] <= starts[-1] < BOUND * 1000
    assert HookRecord("never begun").as_dict()["after_ms"] is None
    assert "ValueError in test_hooks.py" in str(stage.records[1].error)
    assert "secret" not in str([r.as_dict() for r in stage.records])


def test_hanging_hook_does_not_stop_others_and_ends_with_the_budget() -> None:
    """A hook that hangs stops no other, and its stage ends with the budget.

    The next hook is started while it runs.
    """
    release = threading.Event()
    called: list[str] = []
    started = time.monotonic()

    stage = run(
        lambda _d: release.wait(BOUND),
        lambda _d: called.append("second"),
        lambda _d: called.append("third"),
        budget=0.2,
    )
    took = time.monotonic() - started
    release.set()

    assert called == ["second", "third"]
    assert [r.outcome for r in stage.records] == ["timed-out", "ok", "ok"]
    assert stage.records[0].duration >= 0.2 - 0.01, "counted from another hook's start"
    assert 0.2 <= took < BOUND / 2


def test_stage_without_hooks_is_over_at_once() -> None:
    """A stage without hooks is over at once, and starts no thread."""
    before = threading.active_count()

    stage = run()

    assert stage.is_over()
    assert threading.active_count() == before


def test_hook_ending_after_its_stage_changes_no_record() -> None:
    """A hook that ends after its stage changes no record, because the report was written before."""
    release = threading.Event()
    ended = threading.Event()

    def slow(_details: TimeoutDetails) -> None:
        release.wait(BOUND)
        ended.set()

    stage = run(slow, budget=0.02)
    release.set()
    ended.wait(BOUND)

    eventually(lambda: stage.records[0].outcome == "timed-out", "the record to be complete")


def test_hook_gets_the_details_on_its_own_thread() -> None:
    """A hook runs on a thread of its own and gets the details of the timeout."""
    seen: list[tuple[TimeoutDetails, int]] = []
    watchdog = Watchdog(grace_period=0.1)

    @watchdog.shutdown_hook
    def note(details: TimeoutDetails) -> None:
        seen.append((details, threading.get_ident()))

    @watchdog.watch
    def handler(_event: object, _context: object) -> str:
        try:
            threading.Event().wait(BOUND)
        except TimeoutError:
            return "caught"
        return "missed"

    assert handler({}, Context(0.4)) == "caught"
    details, ident = seen[0]
    assert ident != threading.get_ident()
    assert (details.request_id, details.function_name) == ("request-1", "orders")
    assert "(handler)" in details.location
    assert any("(handler)" in place for place in details.stack)
    assert 0.3 <= details.elapsed < BOUND


def test_scoped_hook_is_called_only_inside_its_block() -> None:
    """A scoped hook is called, with its own arguments, only if the watchdog fires in its block."""
    released: list[str] = []

    @watch
    def handler(hang: bool, _context: object) -> str:  # noqa: FBT001
        with scoped_hook(released.append, "lock-1"):
            if hang:
                try:
                    expire()
                except TimeoutError:
                    return "caught"
        return "ended"

    assert handler(False, Context(30.0)) == "ended"
    assert released == []
    assert handler(True, Context(30.0)) == "caught"
    assert released == ["lock-1"]
    assert not _hooks.shared.snapshot()


def test_scoped_hook_that_was_never_entered_can_exit() -> None:
    """A scoped hook that was never entered may be left, as if an interrupt lands in ``__enter__``.

    There is nothing to remove then.
    """
    scoped_hook(print).__exit__(None, None, None)

    assert not _hooks.shared.snapshot()


def test_early_stage_alone_is_no_timeout(
    capfd: object,
) -> None:
    """A stage of ``before=`` runs ahead of the timeout.

    A handler that ends after it, in time, gives no report.
    """
    watchdog = Watchdog(grace_period=0.05)
    seen: list[float] = []

    @watchdog.shutdown_hook(before=0.3)
    def warn(details: TimeoutDetails) -> None:
        seen.append(details.remaining())
        warned.set()

    warned = threading.Event()
    try:

        @watchdog.watch
        def handler(_event: object, _context: object) -> str:
            warned.wait(BOUND)
            return "in time"

        assert handler({}, Context(0.5)) == "in time"
        assert len(seen) == 1
        assert 0.1 < seen[0] <= 0.31
    finally:
        for hook in watchdog._hooks.snapshot():
            watchdog._hooks.remove(hook.key)


def test_stage_registered_during_an_invocation_applies_to_it() -> None:
    """A stage that the handler registers applies to its own invocation.

    The invocation's instants are computed again.
    """
    seen: list[str] = []

    @watch(grace_period=0.02)
    def handler(_event: object, _context: object) -> str:
        done = threading.Event()

        @shutdown_hook(before=0.2)
        def early(_details: TimeoutDetails) -> None:
            seen.append("early")
            done.set()

        return "seen" if done.wait(BOUND) else "missed"

    try:
        assert handler({}, Context(0.3)) == "seen"
    finally:
        for hook in _hooks.shared.snapshot():
            _hooks.shared.remove(hook.key)


def test_hook_name_is_the_qualified_name_or_type() -> None:
    """A hook's name is a function's module and qualified name, or another object's type."""

    class Flusher:
        def __call__(self, _details: TimeoutDetails) -> None: ...

    assert hook_name(run) == "tests.unit.test_hooks.run"
    assert hook_name(Flusher()).endswith("Flusher")
