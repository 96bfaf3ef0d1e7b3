"""The watchdog's actions in one timeout, step by step, on a fake clock."""

from __future__ import annotations

import os
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock, plan, services
from watchdog_lambda._engine import press, snapshot, stage
from watchdog_lambda._engine.escalation import Escalation
from watchdog_lambda._engine.invocation import Firing, Invocation
from watchdog_lambda._hooks import HookRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START, HARD = 1000.0, 1030.0
GRACE_AT, LAST_CALL_AT, LIMIT = 27.0, 29.5, 30.0
DURABLE = {"DurableExecutionArn": "arn", "CheckpointToken": "token"}


class Scene:
    """A function of 30 s with a grace period of 3 s, and the services that the watchdog uses."""

    def __init__(self) -> None:
        self.clock = FakeClock(START)
        self.registry = HookRegistry()
        self.runners: list[Callable[[], object]] = []
        self.reported: list[tuple[Any, ...]] = []
        self.sent = 0
        self.injected: list[tuple[float, object]] = []
        self.reaches = True
        self.stacks: dict[int, list[tuple[str, int, str]]] = {}
        self.handled: BaseException | None = None

    def begin(
        self,
        *,
        injector: bool = True,
        resort: object = None,
        event: object = None,
        **settings: object,
    ) -> Escalation:
        made = plan(self.registry, **settings)
        context = SimpleNamespace(aws_request_id="request-1", function_name="orders")
        self.invocation = Invocation(made, event, context, START, HARD - START, START + GRACE_AT)
        nudge = SimpleNamespace(
            reaches=lambda _ident: self.reaches, send=self.send, heard=0, native_id=0
        )
        acts_with = services(
            self.clock,
            nudge=nudge,
            injector=SimpleNamespace(available=injector),
            report=self,
            last_resort=resort,
        )
        self.firing = Firing(self.invocation, get_ident(), acts_with)
        self.course = Escalation(self.firing)
        return self.course

    def send(self) -> None:
        self.sent += 1

    def at(self, now: float) -> float | None:
        """Run one step that many seconds after the start; return when the next one is due."""
        self.clock.now = START + now
        return self.course.step()

    def write(self, _firing: Firing, outcome: str, last_resort: str | None = None) -> None:
        self.reported.append((outcome, last_resort))

    def run_hooks(self) -> None:
        for runner in self.runners:
            runner()
        self.runners.clear()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene()

    def start(function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if arguments:
            function(*arguments)  # a hook that its runner has started
        else:
            scene.runners.append(function)

    def inject(_firing: Firing, now: float, handled: BaseException | None) -> None:
        scene.injected.append((now, handled))

    monkeypatch.setattr(stage, "start_new_thread", start)
    monkeypatch.setattr(press, "inject", inject)
    monkeypatch.setattr(snapshot, "all_stacks", lambda _ident: dict(scene.stacks))
    monkeypatch.setattr(press, "handled_by", lambda _ident: scene.handled)
    yield scene
    for hook in scene.registry.snapshot():
        scene.registry.remove(hook.key)


def nothing(_details: object) -> None:
    """Do nothing."""


# ---- stages ------------------------------------------------------------------------------------


def test_stages_begin_at_their_instants(scene: Scene) -> None:
    """An early stage does not set ``fired_at``; the stage of the grace period does."""
    scene.registry.add("early", nothing, before=10.0)
    scene.registry.add("last", nothing)
    course = scene.begin()

    assert scene.at(0.0) == 20.0
    assert (scene.firing.stages, course.is_urgent()) == ([], False)
    assert scene.at(20.0) == 21.0, "the hooks' budget is a third of the grace period"
    assert (scene.firing.fired_at, scene.firing.grace_stage) == (None, None)
    assert course.is_urgent()
    scene.run_hooks()
    assert not course.is_urgent()
    assert scene.at(22.0) == GRACE_AT
    assert scene.at(GRACE_AT) == 28.0
    early, last = scene.firing.stages
    assert [r.name for r in (*early.records, *last.records)] == ["early", "last"]
    assert (scene.firing.fired_at, scene.firing.grace_stage) == (GRACE_AT, last)
    assert scene.sent == 0, "interrupts come after the hooks"
    assert course.stages_to_come() == []


def test_late_stages_begin_together(scene: Scene) -> None:
    """Stages whose instants have passed begin in one step, in the order of their instants."""
    for before in (5.0, 10.0):
        scene.registry.add(f"{before:g}", nothing, before=before)
    course = scene.begin()
    assert course.stages_to_come() == [(20.0, 10.0), (25.0, 5.0), (GRACE_AT, None)]

    scene.at(GRACE_AT + 1.0)

    names = [[record.name for record in run.records] for run in scene.firing.stages]
    assert names == [["10"], ["5"], []]
    assert scene.firing.fired_at == GRACE_AT + 1.0


def test_hook_registered_later_gets_its_stage(scene: Scene) -> None:
    """A hook registered later gets its stage once the course is marked as outdated.

    After a MemoryError the mark stays, so the next step sees the hook.
    """
    course = scene.begin()
    assert scene.at(0.0) == GRACE_AT
    scene.registry.add("early", nothing, before=10.0)
    assert scene.at(0.0) == GRACE_AT, "the hook was seen without the mark"
    course.is_outdated = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Escalation, "stages_to_come", _no_memory)
        with pytest.raises(MemoryError):
            scene.at(0.0)
    assert course.is_outdated
    assert scene.at(0.0) == 20.0
    assert not course.is_outdated


def _no_memory(_course: object) -> None:
    raise MemoryError


def test_begun_stage_does_not_begin_again(scene: Scene) -> None:
    """A stage that has begun is not begun again when hooks are registered meanwhile."""
    course = scene.begin()
    scene.at(GRACE_AT)

    course.is_outdated = True
    scene.at(GRACE_AT + 0.5)

    assert len(scene.firing.stages) == 1


def test_no_stage_begins_after_the_handler_has_ended(scene: Scene) -> None:
    """No stage begins, and no further step is due, in an invocation that has settled."""
    scene.begin()
    scene.invocation.is_open = False

    assert scene.at(GRACE_AT) is None
    assert scene.firing.stages == []


def test_course_ends_when_handler_and_hooks_have_ended(scene: Scene) -> None:
    """The course ends when the handler's thread has concluded and no hook runs any more.

    Until then it would keep the invocation's objects alive.
    """
    scene.registry.add("slow", nothing)
    scene.begin()
    scene.at(GRACE_AT)
    scene.invocation.is_open = False
    scene.firing.is_concluded = True

    assert scene.at(GRACE_AT + 0.5) == GRACE_AT + 1.0
    scene.run_hooks()
    assert scene.at(GRACE_AT + 0.5) is None


def test_hook_details_have_the_stacks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook's details have the handler's stack and the times; other threads' are separate."""
    told: list[Any] = []
    scene.registry.add("hook", told.append)
    here, there = (__file__, 7, "handler"), (__file__, 9, "waits")
    scene.stacks = {get_ident(): [here], 7: [there]}
    monkeypatch.setattr(
        snapshot, "other_stacks", lambda _code, stacks: {str(s): () for s in stacks}
    )
    monkeypatch.setattr(snapshot, "with_awaited", lambda stack, _ident, _code: stack)
    scene.begin()

    scene.at(GRACE_AT + 0.5)
    scene.run_hooks()

    [details] = told
    assert (details.request_id, details.function_name) == ("request-1", "orders")
    assert (details.deadline, details.elapsed, details.grace_period) == (HARD, 27.5, 3.0)
    assert details.location == scene.firing.code.location([here])
    assert details.stack == scene.firing.code.places([here])
    assert scene.firing.other_stacks == {"7": ()}


def test_awaited_location_precedes_event_loop_stack(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place where a task waits is the location if the thread's stack is the event loop's."""
    told: list[Any] = []
    scene.registry.add("hook", told.append)
    scene.stacks = {get_ident(): [(os.__file__, 1, "run_forever")]}
    waits = (__file__, 9, "waits")
    monkeypatch.setattr(snapshot, "with_awaited", lambda stack, _ident, _code: [waits, *stack])
    scene.begin()

    scene.at(GRACE_AT)
    scene.run_hooks()

    assert told[0].location == scene.firing.code.location([waits])


# ---- interrupts --------------------------------------------------------------------------------


def test_nudge_is_repeated(scene: Scene) -> None:
    """Nudges begin after the hooks and repeat every 10 ms, or 250 ms after the hard deadline."""
    scene.registry.add("hook", nothing)
    scene.begin()
    scene.at(GRACE_AT)
    waiting = scene.firing.policy.is_waiting
    scene.run_hooks()

    assert scene.at(GRACE_AT + 0.5) == GRACE_AT + 0.5 + 0.01
    assert (waiting, scene.firing.policy.is_waiting) == (True, False)
    assert (scene.sent, scene.injected, scene.firing.delivery) == (1, [], "nudge")
    assert scene.at(LAST_CALL_AT) == LAST_CALL_AT + 0.01
    scene.at(LIMIT - 0.001)
    assert scene.at(LIMIT) == LIMIT + 0.25
    assert scene.sent == 4


def test_deferred_interrupt_is_retried_after_1_ms(scene: Scene) -> None:
    """A deferred interrupt is tried again after 1 ms, to find the thread at another instruction."""
    scene.begin()
    scene.firing.policy._put_off_since = GRACE_AT

    assert scene.at(GRACE_AT) == GRACE_AT + 0.001


def test_shield_ends_frequent_retries(scene: Scene) -> None:
    """A shield ends a deferral, so the next look comes after 10 ms and not after 1 ms."""
    scene.begin()
    scene.firing.policy._put_off_since = GRACE_AT
    scene.invocation.shields = 1

    assert scene.at(GRACE_AT + 0.02) == pytest.approx(GRACE_AT + 0.03)
    scene.invocation.shields = 0
    assert scene.at(GRACE_AT + 0.04) == pytest.approx(GRACE_AT + 0.05)


def test_no_nudge_is_sent_under_a_shield(scene: Scene) -> None:
    """Under a shield the watchdog sends no nudge at all."""
    scene.begin()
    scene.invocation.shields = 1

    assert scene.at(GRACE_AT) == GRACE_AT + 0.01
    assert (scene.sent, scene.firing.delivery) == (0, "nudge")


def test_exception_is_injected_if_no_nudge_reaches(scene: Scene) -> None:
    """Where no nudge reaches the thread, an interrupt is injected, with what is being handled."""
    scene.reaches = False
    scene.handled = KeyError()
    scene.begin()

    scene.at(GRACE_AT)

    assert (scene.sent, scene.injected) == (0, [(GRACE_AT, scene.handled)])
    assert scene.firing.delivery == "injection"


def test_nothing_is_sent_without_nudge_and_injector(scene: Scene) -> None:
    """Without a nudge and an injector nothing is sent, and the delivery is recorded as "none"."""
    scene.reaches = False
    scene.begin(injector=False)

    scene.at(GRACE_AT)

    assert (scene.sent, scene.injected, scene.firing.delivery) == (0, [], "none")


@pytest.mark.parametrize("ended", [True, False])
def test_next_look_is_late_if_no_interrupt_is_due(scene: Scene, *, ended: bool) -> None:
    """The next look comes after 250 ms if no interrupt is wanted, or the handler has ended."""
    scene.begin(interrupt="timeout-error" if ended else "none")
    if ended:
        scene.at(GRACE_AT)
        scene.invocation.is_open = False
    before = scene.sent

    assert scene.at(GRACE_AT + 0.5) == GRACE_AT + 0.75
    assert scene.sent == before


# ---- giving up ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_resort", "fired_at", "stuck_at"),
    [
        ("report", GRACE_AT, 29.75),
        ("exit", GRACE_AT, 29.75),
        ("supervise", GRACE_AT, 29.55),
        ("report", LIMIT - 0.001, 29.75),
        ("report", LIMIT, 33.0),
        ("supervise", LIMIT + 1.0, 34.0),
    ],
)
def test_handler_is_given_up_after_last_call(
    scene: Scene, last_resort: str, fired_at: float, stuck_at: float
) -> None:
    """A handler is stuck some time after last call, or later if the watchdog itself fired late."""
    course = scene.begin(last_resort=last_resort)

    assert course.stuck_at(fired_at) == pytest.approx(stuck_at)


@pytest.mark.parametrize(("margin", "stuck_at"), [(0.0, 29.55), (0.25, 29.55), (1.0, 28.9)])
def test_handler_is_given_up_before_the_last_resort_acts_by_itself(
    scene: Scene, margin: float, stuck_at: float
) -> None:
    """The watchdog gives up, and writes its record, before a supervisor acts by itself."""
    course = scene.begin(resort=Resort(None, margin), last_resort="supervise")

    assert course.stuck_at(GRACE_AT) == pytest.approx(stuck_at)


def test_stuck_handler_is_reported_once(scene: Scene) -> None:
    """A stuck handler is reported once; then nothing is urgent, but the interrupts continue."""
    course = scene.begin()
    scene.at(GRACE_AT)
    assert scene.at(29.745) == 29.75, "the report is due before the next nudge"
    assert (scene.reported, course.is_urgent()) == ([], True)

    scene.stacks = {get_ident(): [(__file__, 9, "still_here")], 7: [(__file__, 9, "waits")]}
    assert scene.at(29.75) == 29.76
    assert list(scene.firing.other_stacks) == ["thread"], (
        "the other threads' stacks were not updated"
    )
    assert scene.at(29.9) == pytest.approx(29.91)

    assert scene.reported == [("stuck", None)]
    assert not course.is_urgent()


class Resort:
    """A last resort that returns why it was not carried out."""

    def __init__(self, why_not: str | None, margin: float = 0.0) -> None:
        self.why_not = why_not
        self.margin = lambda _seconds: margin
        self.asked: list[float] = []

    def act(self, firing: Firing) -> str | None:
        self.asked.append(firing.elapsed())
        return self.why_not


@pytest.mark.parametrize(
    ("given", "resort", "remark"),
    [
        ({"last_resort": "report"}, Resort("unasked"), None),
        ({"last_resort": "exit"}, None, "not exit: not available here"),
        (
            {"last_resort": "exit", "event": DURABLE},
            Resort("unasked"),
            "not exit: a durable function: an error would be final",
        ),
        ({"last_resort": "exit", "interrupt": "none"}, Resort("no id"), "not exit: no id"),
        (
            {"last_resort": "exit", "event": DURABLE, "interrupt": "none"},
            Resort("no"),
            "not exit: no",
        ),
        ({"last_resort": "supervise"}, Resort("refused"), "not supervise: refused"),
        ({"last_resort": "supervise"}, Resort(None), None),
    ],
)
def test_failed_last_resort_is_reported(
    scene: Scene, given: dict[str, object], resort: Resort | None, remark: str | None
) -> None:
    """A last resort that fails is asked once, before the report, which has the reason."""
    scene.begin(resort=resort, **given)  # type: ignore[arg-type]
    scene.at(GRACE_AT)

    scene.at(29.8)
    scene.at(29.9)

    assert scene.reported[0] == ("stuck", remark)
    if resort is not None:
        assert resort.asked == ([] if resort.why_not == "unasked" else [pytest.approx(29.8)])
        resort.asked.clear()


def test_last_resort_is_not_used_past_the_hard_deadline(scene: Scene) -> None:
    """At the hard deadline the last resort is not used, because no caller waits any more."""
    resort = Resort(None)
    scene.begin(resort=resort, last_resort="exit")
    scene.at(GRACE_AT)

    scene.at(LIMIT)

    assert scene.reported[0] == ("stuck", None)
    assert resort.asked == []


@pytest.mark.parametrize("why", ["returned", "reported"])
def test_returned_or_reported_handler_is_not_reported_as_stuck(scene: Scene, why: str) -> None:
    """A handler that has returned, or has a report, is not reported as stuck."""
    course = scene.begin()
    scene.at(GRACE_AT)
    if why == "returned":
        scene.invocation.is_open = False
    else:
        scene.firing.report("stuck")
        scene.reported.clear()

    scene.at(29.8)

    assert scene.reported == []
    assert not course.is_urgent()
