"""How the hooks of one stage share its budget, on a fake clock.

No threads are started. The test calls the runner itself, and a hook ends while the runner sleeps,
after the time that the test gives it, or not at all if it hangs.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, FakeClock
from watchdog_lambda import TimeoutDetails, _hooks
from watchdog_lambda._engine import stage as _stage
from watchdog_lambda._engine.clock import Stopwatch
from watchdog_lambda._engine.stage import BoundedCall, HookRecord, Stage, call_bounded
from watchdog_lambda._hooks import Hook, HookRegistry, hook_name, stages

if TYPE_CHECKING:
    from collections.abc import Callable

DETAILS = TimeoutDetails(deadline=0.0, elapsed=0.0, grace_period=0.0)
START = 1000.0
HANGS = 1e9


class Scene:
    """A stage, its clock, and the threads that it would have started."""

    def __init__(self, calls: list[Callable[[Any], object]], budget: float) -> None:
        self.clock = FakeClock(START)
        self.clock.alarm.wait = self._sleep  # type: ignore[method-assign]
        self.rung = 0
        self.started: list[float] = []
        self.under_way: list[tuple[float, Callable[[], object]]] = []
        self.lasts = dict.fromkeys(range(len(calls)), 0.0)
        """How long each hook takes, by its number; ``HANGS`` if it does not end by itself."""
        self.runner: Callable[[], object] | None = None
        hooks = [Hook(n, f"hook-{n}", call, None) for n, call in enumerate(calls)]
        self.stage = Stage(hooks, DETAILS, budget, Stopwatch(self.clock, START), self._ring)

    def elapsed(self) -> float:
        return self.clock.now - START

    def start(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if not arguments:
            self.runner = function
            return
        lasts = self.lasts[len(self.started)]
        self.started.append(self.elapsed())
        self.under_way.append((self.clock.now + lasts, functools.partial(function, *arguments)))

    def _ring(self) -> None:
        self.rung += 1

    def _sleep(self, seconds: float) -> bool:
        """Sleep, as the runner, until a hook ends or the seconds have passed."""
        until = self.clock.now + seconds
        ends_at, hook = min(self.under_way, key=lambda one: one[0])
        if ends_at > until:
            self.clock.now = until
            return True
        self.clock.now = ends_at
        self.under_way.remove((ends_at, hook))
        hook()
        return False

    def let_end(self) -> None:
        """End every hook that still runs."""
        while self.under_way:
            self.under_way.pop(0)[1]()

    def run(self) -> None:
        """Begin the stage, and run its runner to the end."""
        self.stage.begin()
        if self.runner is not None:
            self.runner()

    @property
    def outcomes(self) -> list[str]:
        return [record.outcome for record in self.stage.records]

    @property
    def told(self) -> list[tuple[str, float | None, float]]:
        return [(r.outcome, r.started, r.duration) for r in self.stage.records]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scene]:
    def make(*calls: Callable[[Any], object], budget: float = 3.0) -> Scene:
        made = Scene(list(calls), budget)
        monkeypatch.setattr(_stage, "start_new_thread", made.start)
        return made

    return make


def nothing(_details: object) -> None:
    """Do nothing."""


def test_hooks_run_in_sequence_with_the_details(
    make: Callable[..., Scene],
) -> None:
    """Hooks run one after the other, each with the details, and the last one ends the stage."""
    given: list[object] = []
    scene = make(given.append, given.append, given.append)
    scene.lasts = {0: 0.5, 1: 0.25, 2: 0.75}

    scene.run()

    assert given == [DETAILS] * 3
    assert scene.told == [("ok", 0.0, 0.5), ("ok", 0.5, 0.25), ("ok", 0.75, 0.75)]
    assert scene.stage.is_over()
    assert scene.stage.has_ended()
    assert scene.rung == 1


def test_next_hook_starts_when_one_has_used_its_share(
    make: Callable[..., Scene],
) -> None:
    """When a hook has used its share of the remaining budget, the next one starts beside it."""
    scene = make(nothing, nothing, nothing)
    scene.lasts = {0: HANGS, 1: 0.25, 2: 0.0}

    scene.run()

    assert scene.started == [0.0, 1.0, 1.25]
    assert scene.outcomes == ["running", "ok", "ok"]
    assert not scene.stage.is_over(), "a hook is still running"
    scene.clock.now = START + 2.5
    scene.let_end()
    assert scene.told == [("ok", 0.0, 2.5), ("ok", 1.0, 0.25), ("ok", 1.25, 0.0)]
    assert scene.stage.is_over()
    assert scene.rung == 1


@pytest.mark.parametrize(
    ("lasts", "starts"),
    [
        ({0: 0.5, 1: HANGS, 2: 0.0}, [0.0, 0.5, 0.5 + 2.5 / 2]),
        ({0: HANGS, 1: HANGS, 2: HANGS}, [0.0, 1.0, 2.0]),
        ({0: 0.999, 1: HANGS, 2: 0.0}, [0.0, 0.999, 0.999 + 2.001 / 2]),
    ],
)
def test_unused_hook_time_is_shared_by_later_hooks(
    make: Callable[..., Scene], lasts: dict[int, float], starts: list[float]
) -> None:
    """The time that a hook leaves is shared by the hooks after it, within the budget."""
    scene = make(nothing, nothing, nothing)
    scene.lasts = lasts

    scene.run()

    assert scene.started == pytest.approx(starts)
    assert scene.clock.now <= START + 3.0


def test_stage_without_hooks_is_over_when_it_begins(make: Callable[..., Scene]) -> None:
    """A stage without hooks is over when it begins, without a runner."""
    scene = make()
    before = scene.stage.is_over()

    scene.run()

    assert (before, scene.stage.is_over(), scene.runner) == (False, True, None)


def test_no_hook_is_started_once_the_budget_is_spent(make: Callable[..., Scene]) -> None:
    """A hook that has not begun when the budget is spent is recorded as "not-run"."""
    scene = make(nothing, nothing)
    scene.stage.begin()
    scene.clock.now = START + 3.0
    assert scene.runner is not None

    scene.runner()

    assert scene.stage.is_over()
    assert not scene.stage.has_ended()
    assert scene.outcomes == ["not-run", "not-run"]


def test_hook_running_at_close_has_timed_out(
    make: Callable[..., Scene],
) -> None:
    """Closing a stage records a running hook as "timed-out", and no other hook starts.

    The hook's later end does not change its record.
    """

    def fail(_details: object) -> None:
        raise ValueError

    scene = make(fail, nothing)
    scene.lasts[0] = HANGS

    def close(_seconds: float) -> None:
        scene.clock.advance(0.75)
        scene.stage.close()

    scene.clock.alarm.wait = close  # type: ignore[assignment, method-assign]
    scene.run()
    assert scene.clock.alarm.rung == 1, "close() did not wake the runner"
    scene.clock.advance(1.0)
    scene.let_end()

    assert scene.outcomes == ["timed-out", "not-run"]
    assert (scene.stage.records[0].duration, scene.stage.records[0].error) == (0.75, None)
    assert len(scene.started) == 1


def test_close_keeps_records_of_ended_hooks(make: Callable[..., Scene]) -> None:
    """Closing a stage, also twice, does not change the record of a hook that has ended."""
    scene = make(nothing)
    scene.run()
    scene.clock.advance(1.0)

    scene.stage.close()
    scene.stage.close()

    assert scene.told == [("ok", 0.0, 0.0)]


def test_hooks_ending_after_close_ring_once(
    make: Callable[..., Scene],
) -> None:
    """Hooks that end after they were closed keep their records, and the stage rings once."""
    scene = make(nothing, nothing)
    scene.lasts = {0: HANGS, 1: HANGS}
    scene.run()
    scene.stage.close()

    scene.let_end()

    assert scene.outcomes == ["timed-out", "timed-out"]
    assert scene.stage.has_ended()
    assert scene.rung == 1


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_stage_ends_if_no_thread_can_be_started(
    make: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, error: Exception, at: int
) -> None:
    """If no thread can be started, for the runner or a hook, the stage ends without a retry."""
    scene = make(nothing, nothing)
    real, tries = scene.start, []

    def start(function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        tries.append(function)
        if len(tries) > at:
            raise error
        real(function, arguments)

    monkeypatch.setattr(_stage, "start_new_thread", start)

    scene.run()

    assert scene.outcomes == [["not-run", "not-run"], ["not-run", "not-run"], ["ok", "not-run"]][at]
    assert [r.started for r in scene.stage.records][1] is None
    assert len(tries) == at + 1
    assert scene.stage.has_ended()
    assert scene.rung == min(at, 1), "the stage's end rang for its own thread"


def test_running_hook_is_awaited_if_next_has_no_thread(
    make: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that runs is waited for, even if no thread can be started for the next one."""
    scene = make(nothing, nothing)
    scene.lasts[0] = HANGS
    real = scene.start

    def start(function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if scene.started:
            raise RuntimeError
        real(function, arguments)

    monkeypatch.setattr(_stage, "start_new_thread", start)
    scene.run()
    before = scene.stage.is_over()

    scene.let_end()

    assert (before, scene.stage.has_ended()) == (False, True)
    assert scene.outcomes == ["ok", "not-run"]


class FakeLock:
    """Stands in for the lock that a stage's end releases, and records the waits."""

    def __init__(self, *, taken: bool) -> None:
        self.taken = taken
        self.waits: list[tuple[bool, float]] = []

    def acquire(self, blocking: bool, timeout: float) -> bool:  # noqa: FBT001
        self.waits.append((blocking, timeout))
        was_taken, self.taken = self.taken, True
        return not was_taken

    def release(self) -> None:
        self.taken = False


@pytest.mark.parametrize(("elapsed", "wait"), [(0.0, 3.0), (1.0, 2.0), (3.0, 0.0), (9.0, 0.0)])
def test_stage_is_awaited_until_its_budget_ends(
    elapsed: float, wait: float, make: Callable[..., Scene]
) -> None:
    """A stage is waited for until its budget ends, and not at all afterwards.

    A negative timeout would mean forever.
    """
    scene = make(nothing)
    lock = FakeLock(taken=True)
    scene.stage._done = lock  # type: ignore[assignment]
    scene.clock.advance(elapsed)

    scene.stage.wait()

    assert lock.waits == [(True, wait)]
    assert lock.taken, "the stage has ended"


def test_finished_stage_can_be_awaited_again(make: Callable[..., Scene]) -> None:
    """Waiting for a stage that is over leaves the lock free, for another thread's wait."""
    scene = make(nothing)
    lock = FakeLock(taken=False)
    scene.stage._done = lock  # type: ignore[assignment]

    scene.stage.wait()

    assert not lock.taken


# ---- one call ----------------------------------------------------------------------------------


def test_call_within_its_bound_has_its_result() -> None:
    """A call that ends in time has its result, and runs in its own thread."""
    call = call_bounded(threading.get_ident, BOUND)

    assert (call.has_ended(), call.has_returned, call.error) == (True, True, "")
    assert call.result != threading.get_ident()


def test_raising_call_gives_error_type_and_location() -> None:
    """A call that raises, even SystemExit, gives the error's type and place, not its message."""

    def leave() -> None:
        raise SystemExit("secret")

    call = call_bounded(leave, BOUND)

    line = leave.__code__.co_firstlineno + 1
    assert (call.has_ended(), call.has_returned, call.result) == (True, False, None)
    assert (call.error, call.place) == ("SystemExit", f"test_stage.py:{line} (leave)")


@pytest.mark.parametrize("seconds", [0.01, 0.0, -1.0])
def test_hanging_call_is_awaited_until_its_bound(seconds: float) -> None:
    """A call that hangs is waited for until its bound, which may have passed already."""
    goes_on = threading.Event()

    call = call_bounded(lambda: goes_on.wait(BOUND), seconds)
    before = (call.has_ended(), call.has_returned, call.wait(0.0))
    goes_on.set()

    assert before == (False, False, False)
    assert call.wait(BOUND)
    assert call.wait(), "a second wait failed"
    assert call.has_returned


def test_call_can_be_run_in_a_context() -> None:
    """A call can be run by another function, as in a context."""
    ran: list[str] = []

    def within(run: Callable[[], None]) -> None:
        ran.append("within")
        run()

    assert call_bounded(lambda: ran.append("call"), BOUND, within).has_returned
    assert ran == ["within", "call"]


def test_call_raises_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, ``call_bounded`` raises, and its caller must handle that."""

    def refuse(*_given: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_stage, "start_new_thread", refuse)

    with pytest.raises(RuntimeError, match="start new thread"):
        call_bounded(int, BOUND)
    assert not BoundedCall(int).has_ended()


# ---- what is recorded of a hook ----------------------------------------------------------------


def test_record_has_milliseconds() -> None:
    """A record has milliseconds since the invocation's start, and tenths for the duration."""
    record = HookRecord("app.flush")
    record.started, record.duration, record.outcome = 1.5, 0.12345, "ok"

    told = record.as_dict()
    record.error = "ValueError"

    assert told == {"name": "app.flush", "outcome": "ok", "after_ms": 1500, "duration_ms": 123.5}
    assert record.as_dict() == {**told, "error": "ValueError"}
    assert HookRecord("b").as_dict() == {
        "name": "b",
        "outcome": "not-run",
        "after_ms": None,
        "duration_ms": 0.0,
    }


def test_error_is_recorded_as_type_and_innermost_location(make: Callable[..., Scene]) -> None:
    """An error is recorded as its type and innermost place: the file's name, line and function."""

    def inner() -> None:
        raise KeyError("secret")

    scene = make(lambda _details: inner())
    scene.run()

    line = inner.__code__.co_firstlineno + 1
    assert scene.outcomes == ["raised"]
    assert scene.stage.records[0].error == f"KeyError in test_stage.py:{line} (inner)"


def test_unnamed_callable_is_named_by_its_type() -> None:
    """A callable without a name is named by its type, without a module if it has none."""

    class Flusher:
        __module__ = None  # type: ignore[assignment]

    assert hook_name(nothing) == "tests.unit._engine.test_stage.nothing"
    assert hook_name(functools.partial(nothing)) == "functools.partial"
    assert hook_name(Flusher()) == "Flusher"


def test_removing_a_hook_is_idempotent() -> None:
    """A removed hook is gone from its registry and the process; removing it again is no error."""
    registry = HookRegistry()
    plain = registry.add("plain", nothing)
    staged = registry.add("staged", nothing, before=5.0)
    assert [hook.name for hook in registry.snapshot()] == ["plain", "staged"]
    assert set(_hooks.staged) == {staged}

    for key in (plain, staged, staged):
        registry.remove(key)

    assert registry.snapshot() == []
    assert not _hooks.staged


def test_stage_hooks_are_in_reverse_order_of_registration() -> None:
    """Each stage has the hooks of all registries, with the last registered first."""
    one, other = HookRegistry(), HookRegistry()
    keys = [
        registry.add(name, nothing, before)
        for registry, name, before in (
            (one, "a", None),
            (other, "b", 10.0),
            (other, "c", None),
            (one, "d", 10.0),
            (one, "e", 5.0),
            (one, "f", None),
        )
    ]

    found = stages((one, other))
    for registry in (one, other):
        for key in keys:
            registry.remove(key)

    names = {before: [hook.name for hook in hooks] for before, hooks in found.items()}
    assert names == {None: ["f", "c", "a"], 10.0: ["d", "b"], 5.0: ["e"]}
