"""The hooks of one stage share its budget: who runs when, to the instant, on a clock of the test's.

The runners' threads are not started: the test runs them, and a hook that hangs is one that has the
watchdog go on while it runs.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock
from watchdog_lambda import TimeoutDetails, _hooks
from watchdog_lambda._hooks import Hook, HookRecord, HookRegistry, StageRun, hook_name, stages

if TYPE_CHECKING:
    from collections.abc import Callable

DETAILS = TimeoutDetails(deadline=0.0, elapsed=0.0, grace_period=0.0)
START = 1000.0


class Stage:
    """A stage run, its clock, and the runners that it wanted started."""

    def __init__(self, calls: list[Callable[[Any], object]], budget: float) -> None:
        self.clock = FakeClock(START)
        self.runners: list[Callable[[], object]] = []
        hooks = [Hook(n, f"hook-{n}", call, None) for n, call in enumerate(calls)]
        self.run = StageRun(hooks, DETAILS, budget, self.clock, self.clock.alarm)

    def start(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.runners.append(functools.partial(function, *arguments))

    def step(self) -> float:
        """The watchdog looks after it; when it wants to look again, since the start."""
        return self.run.step(self.clock.now) - START

    @property
    def outcomes(self) -> list[str]:
        return [record.outcome for record in self.run.records]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    def make(*calls: Callable[[Any], object], budget: float = 3.0) -> Stage:
        made = Stage(list(calls), budget)
        monkeypatch.setattr(_hooks, "start_new_thread", made.start)
        return made

    return make


def nothing(_details: object) -> None:
    """A hook with nothing to do."""


def test_hooks_that_end_after_they_were_judged_end_the_stage_once(
    stage: Callable[..., Stage],
) -> None:
    """Two of them, one inside of the other's time."""

    def first(_details: object) -> None:
        made.clock.advance(1.6)
        made.step()
        made.runners[1]()

    def second(_details: object) -> None:
        made.run.close()

    made = stage(first, second)
    made.run.begin()

    made.runners[0]()

    assert made.outcomes == ["timed-out", "timed-out"]
    assert made.run.is_over()


def test_hooks_run_one_after_the_other_on_one_runner(stage: Callable[..., Stage]) -> None:
    """Each may take an equal part of what is left when it begins."""
    parts: list[float] = []

    def take_half_a_second(details: object) -> None:
        assert details is DETAILS
        parts.append(made.step())
        made.clock.advance(0.5)

    made = stage(take_half_a_second, take_half_a_second, take_half_a_second)
    made.run.begin()
    assert len(made.runners) == 1
    assert not made.run.is_over()

    made.runners[0]()

    assert parts == [1.0, 0.5 + 2.5 / 2, 1.0 + 2.0]
    assert len(made.runners) == 1, "no hook has taken more than its part"
    assert [(r.outcome, r.started, r.duration) for r in made.run.records] == [
        ("ok", START, 0.5),
        ("ok", START + 0.5, 0.5),
        ("ok", START + 1.0, 0.5),
    ]
    assert made.run.is_over()
    assert made.clock.alarm.rung == 3


def test_the_next_hook_is_started_beside_one_that_has_had_its_part(
    stage: Callable[..., Stage],
) -> None:
    """It shares what is left with those behind it; the runner before takes none any more."""
    called: list[str] = []

    def hang(_details: object) -> None:
        called.append("hang begins")
        made.clock.now = START + 0.999
        assert made.step() == 1.0
        assert len(made.runners) == 1
        made.clock.now = START + 1.0
        assert made.step() == 1.0 + 2.0 / 2
        made.runners[1]()
        assert not made.run.is_over(), "one is still under way"
        called.append("hang ends")

    def take_a_quarter(_details: object) -> None:
        called.append("second")
        made.clock.advance(0.25)

    made = stage(hang, take_a_quarter, lambda _details: called.append("third"))
    made.run.begin()

    made.runners[0]()

    assert called == ["hang begins", "second", "third", "hang ends"]
    assert [(r.outcome, r.started, r.duration) for r in made.run.records] == [
        ("ok", START, 1.25),
        ("ok", START + 1.0, 0.25),
        ("ok", START + 1.25, 0.0),
    ]
    assert made.run.is_over()
    assert len(made.runners) == 2


def test_a_runner_that_has_been_relieved_takes_no_other_hook(stage: Callable[..., Stage]) -> None:
    """Even if the one that has relieved it has not come to run yet."""
    called: list[str] = []

    def hang(_details: object) -> None:
        made.clock.advance(1.5)
        made.step()

    made = stage(hang, lambda _details: called.append("second"))
    made.run.begin()

    made.runners[0]()
    before = list(called)
    made.runners[1]()

    assert (before, called) == ([], ["second"])
    assert made.outcomes == ["ok", "ok"]


def test_without_hooks_a_stage_is_over_when_it_begins(stage: Callable[..., Stage]) -> None:
    """By no clock."""
    made = stage()
    before = made.run.is_over()

    made.run.begin()

    assert (before, made.run.is_over(), made.runners) == (False, True, [])


def test_a_stage_that_has_yet_to_begin_is_looked_at_again_at_its_end(
    stage: Callable[..., Stage],
) -> None:
    """It was published, and then there was no memory to begin it."""
    made = stage(nothing)

    assert made.step() == 3.0
    assert made.runners == []


def test_nobody_is_started_beside_the_last_hook(stage: Callable[..., Stage]) -> None:
    """There is none left; the watchdog looks again at the stage's end."""

    def hang(_details: object) -> None:
        made.clock.now = START + 2.5
        assert made.step() == 3.0
        assert len(made.runners) == 1

    made = stage(hang)
    made.run.begin()

    made.runners[0]()

    assert made.outcomes == ["ok"]


class NoMemory:
    """A record that there is no memory to change."""

    def __init__(self) -> None:
        self.outcome = "not-run"

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "outcome"):
            raise MemoryError
        super().__setattr__(name, value)


def test_a_runner_that_dies_with_the_last_hook_leaves_nothing_to_look_for(
    stage: Callable[..., Stage],
) -> None:
    """The watchdog would look again and again for the next one, until the stage's end."""
    made = stage(nothing, nothing)
    made.run.records[1] = NoMemory()  # type: ignore[call-overload]
    made.run.begin()
    with pytest.raises(MemoryError):
        made.runners.pop()()

    made.clock.advance(1.5)

    assert made.step() == 3.0
    assert made.runners == []


def test_no_hook_is_started_once_the_budget_is_spent(stage: Callable[..., Stage]) -> None:
    """At its very end the stage is over, and what has not begun is not begun any more."""
    made = stage(nothing, nothing)
    made.run.begin()
    made.clock.now = START + 3.0

    assert made.run.is_over()
    assert made.step() == 1.5, "it is past, so it does not matter"
    assert len(made.runners) == 1
    made.run.close()
    made.runners[0]()
    assert made.outcomes == ["not-run", "not-run"]


def test_what_still_runs_when_the_stage_is_closed_has_timed_out(
    stage: Callable[..., Stage],
) -> None:
    """Its end changes nothing any more, and its runner takes no other."""

    def hang(_details: object) -> None:
        made.clock.advance(0.75)
        made.run.close()
        made.clock.advance(1.0)
        raise ValueError

    made = stage(hang, nothing)
    made.run.begin()

    made.runners[0]()

    assert made.outcomes == ["timed-out", "not-run"]
    assert (made.run.records[0].duration, made.run.records[0].error) == (0.75, None)
    assert made.clock.alarm.rung == 1


def test_closing_changes_no_hook_that_has_ended(stage: Callable[..., Stage]) -> None:
    """Nor when it is done twice."""
    made = stage(nothing)
    made.run.begin()
    made.runners[0]()
    made.clock.advance(1.0)

    made.run.close()
    made.run.close()

    assert [(r.outcome, r.duration) for r in made.run.records] == [("ok", 0.0)]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_a_thread_to_be_had_no_hook_runs(
    error: Exception, stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again and again, and the records say so."""
    made = stage(nothing, nothing)
    tries: list[object] = []

    def refuse(*given: object) -> None:
        tries.append(given)
        raise error

    monkeypatch.setattr(_hooks, "start_new_thread", refuse)

    made.run.begin()

    made.clock.advance(1.5)
    assert made.step() == 3.0
    assert made.outcomes == ["not-run", "not-run"]
    assert len(tries) == 1


class FakeLock:
    """The lock that says whether a stage is over, and how long it was waited for."""

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
def test_a_stage_is_waited_for_until_its_budget_ends(
    elapsed: float, wait: float, stage: Callable[..., Stage]
) -> None:
    """Not at all afterwards: a negative time would mean for good."""
    made = stage(nothing)
    lock = FakeLock(taken=True)
    made.run._done = lock  # type: ignore[assignment]
    made.clock.advance(elapsed)

    made.run.wait()

    assert lock.waits == [(True, wait)]
    assert lock.taken, "nobody has ended it"


def test_a_stage_that_is_over_can_be_waited_for_again(stage: Callable[..., Stage]) -> None:
    """By the watchdog and by the handler's thread."""
    made = stage(nothing)
    lock = FakeLock(taken=False)
    made.run._done = lock  # type: ignore[assignment]

    made.run.wait()

    assert not lock.taken


# ---- what is told of a hook --------------------------------------------------------------------


def test_a_record_tells_milliseconds() -> None:
    """Since the invocation's start; with a tenth for how long it took."""
    record = HookRecord("app.flush")
    record.started, record.duration, record.outcome = 101.5, 0.12345, "ok"

    told = record.as_dict(100.0)
    record.error = "ValueError"

    assert told == {"name": "app.flush", "outcome": "ok", "after_ms": 1500, "duration_ms": 123.5}
    assert record.as_dict(100.0) == {**told, "error": "ValueError"}
    assert HookRecord("b").as_dict(100.0) == {
        "name": "b",
        "outcome": "not-run",
        "after_ms": None,
        "duration_ms": 0.0,
    }


def test_an_error_is_told_by_type_and_innermost_place(stage: Callable[..., Stage]) -> None:
    """File without its folders, line, function."""

    def inner() -> None:
        raise KeyError("secret")

    made = stage(lambda _details: inner())
    made.run.begin()
    made.runners[0]()

    line = inner.__code__.co_firstlineno + 1
    assert made.outcomes == ["raised"]
    assert made.run.records[0].error == f"KeyError in test_hook_shares.py:{line} (inner)"


def test_what_has_no_name_is_named_by_its_type() -> None:
    """And without a module where there is none."""

    class Flusher:
        __module__ = None  # type: ignore[assignment]

    assert hook_name(nothing) == "tests.unit.test_hook_shares.nothing"
    assert hook_name(functools.partial(nothing)) == "functools.partial"
    assert hook_name(Flusher()) == "Flusher"


def test_a_registry_forgets_what_is_removed_once_and_again() -> None:
    """A hook with a stage of its own is known for the whole process, until it is removed."""
    registry = HookRegistry()
    plain = registry.add("plain", nothing)
    staged = registry.add("staged", nothing, before=5.0)
    assert [hook.name for hook in registry.snapshot()] == ["plain", "staged"]
    assert set(_hooks.staged) == {staged}

    for key in (plain, staged, staged):
        registry.remove(key)

    assert registry.snapshot() == []
    assert not _hooks.staged


def test_each_stage_has_its_hooks_with_the_last_registered_first() -> None:
    """Whatever registry they are in."""
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
