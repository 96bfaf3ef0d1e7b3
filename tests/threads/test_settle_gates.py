"""Settle against fire: the watchdog is held at every critical point while the handler ends."""

from __future__ import annotations

import dis
import math
import operator
import sys
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context, eventually, landed_outside, plan
from tests.threads.gates import (
    LONG,
    Gate,
    GatedInjector,
    GatedNudge,
    SilentNudge,
    Soon,
    let_time_pass,
    parts,
)
from watchdog_lambda import LambdaTimeout, TimeLimitExceeded, Watchdog, time_limit
from watchdog_lambda._cpython.delivery import Nudge, holding
from watchdog_lambda._cpython.recursion import Room
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._engine import interrupts, press, snapshot
from watchdog_lambda._engine import invocation as invocation_module
from watchdog_lambda._engine.current import active
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.limits import of_thread
from watchdog_lambda._engine.nudged import has_caught_up
from watchdog_lambda._engine.stage import Stage
from watchdog_lambda._handler import guard
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

RESULT = object()


def ready(watched: Callable[[Any, Any], object]) -> None:
    """Install the nudge and start the thread before parts are replaced."""
    watched("ok", Context(60.0))


def on_a_worker(call: Callable[[], object]) -> tuple[object, list[BaseException]]:
    """Run a watched call in another thread; return its outcome, and what landed after it."""
    outcome: list[object] = []
    landed: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)
        landed.extend(landed_outside())

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(BOUND)
    assert not worker.is_alive(), "the worker did not end in time"
    return outcome[0], landed


def test_nudge_after_settle_does_nothing() -> None:
    """A nudge that is sent after settle does nothing.

    The watchdog has decided to nudge, the handler returns, and the signal comes in the runtime's
    loop.
    """
    gate = Gate()

    def handler(event: str, _context: object) -> object:
        if event != "ok":
            gate.wait_until_reached()
        return RESULT

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)

    with parts(nudge=GatedNudge(gate)):
        result = watched("race", Soon())
        gate.open()
        assert gate.passed.wait(BOUND)
        landed = landed_outside()

    assert result is RESULT
    assert landed == []


def test_nudge_after_settle_does_not_reach_next_invocation() -> None:
    """A nudge that is sent after settle does nothing in the next handler either."""
    gate = Gate()

    def handler(event: str, _context: object) -> object:
        if event == "race":
            gate.wait_until_reached()
        if event == "next":
            gate.open()
            assert gate.passed.wait(BOUND)
            assert landed_outside() == []
        return RESULT

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)

    with parts(nudge=GatedNudge(gate)):
        assert watched("race", Soon()) is RESULT
        assert watched("next", Context(60.0)) is RESULT


def test_timeout_beginning_at_handler_end_restores_recursion_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A watchdog that begins a timeout as the handler ends leaves the recursion limit as it was.

    The watchdog has found the invocation open; the handler's thread closes it and waits in settle.
    """
    gate, add, closed = Gate(), Room.add, threading.Event()

    def held(room: Room) -> None:
        gate.hold()
        add(room)

    def waits(lock: Any, act: Callable[[], Any]) -> Any:
        closed.set()
        return holding(lock, act)

    def let_the_watchdog_go_on() -> None:
        assert closed.wait(BOUND)
        gate.open()

    def handler(event: str, _context: object) -> object:
        if event == "race":
            gate.wait_until_reached()
        return RESULT

    limit = sys.getrecursionlimit()
    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)
    monkeypatch.setattr(Room, "add", held)
    monkeypatch.setattr(invocation_module, "holding", waits)
    opener = threading.Thread(target=let_the_watchdog_go_on)
    opener.start()

    assert watched("race", Soon()) is RESULT

    opener.join(BOUND)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("ends_with", ["a result", "an error"])
def test_no_package_instruction_lets_an_interrupt_land(ends_with: str) -> None:
    """No instruction from the handler's end to the runtime lets an interrupt land.

    The interrupt is due all the time, and the next test is the control, in the handler's frame.
    """
    gate = Gate()
    invocations: list[Invocation] = []
    decisions: list[tuple[str, BaseException | None]] = []
    own = ValueError("own")

    def handler(event: str, _context: object) -> object:
        if event == "ok":
            return None
        assert gate.passed.wait(BOUND)
        invocation = active[threading.get_ident()]
        assert invocation.firing is not None
        invocations.append(invocation)
        control = invocation.firing.policy
        assert control.is_wanted(process_watchdog.clock.monotonic(), None)
        sys.settrace(trace)
        sys._getframe(1).f_trace = trace_package
        sys._getframe(1).f_trace_opcodes = True
        if ends_with == "an error":
            raise own
        return RESULT

    def trace(frame: FrameType, _kind: str, _argument: object) -> Any:
        return trace_package if is_ours(frame.f_code) else None

    def trace_package(frame: FrameType, _kind: str, _argument: object) -> Any:
        frame.f_trace_opcodes = True
        firing = invocations[0].firing
        assert firing is not None
        firing.looks_blocked = True  # blocked everywhere, as no trace function is set for it
        decisions.append((frame.f_code.co_name, process_watchdog._decide(frame)))
        return trace_package

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)
    before = sys.gettrace()
    outcome: object
    try:
        with parts(nudge=SilentNudge(gate)):
            try:
                outcome = watched("race", Soon())
            except ValueError as error:
                outcome = error
            finally:
                sys.settrace(before)
    finally:
        sys.settrace(before)

    assert outcome is (own if ends_with == "an error" else RESULT)
    assert len(decisions) > 20
    assert {"guarded", "settle", "conclude"} <= {name for name, _ in decisions}
    assert [found for found in decisions if found[1] is not None] == []


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the watchdog take the main thread for blocked, or it may undo that `nudged` does so."""
    monkeypatch.setattr(press, "main_is_blocked", lambda _thread_id: True)


def nudged() -> BaseException | None:
    """Return what a nudge raises in the caller, which counts as blocked."""
    for invocation in of_thread(threading.get_ident()):
        if invocation.firing is not None:
            invocation.firing.looks_blocked = True
    try:
        Nudge(process_watchdog._decide)._on_nudge(0, sys._getframe(1))
    except (LambdaTimeout, TimeLimitExceeded) as error:
        return error
    return None


@pytest.mark.usefixtures("blocked")
def test_interrupt_lands_in_the_handlers_own_frame() -> None:
    """In the handler's own frame the interrupt lands: the control of the test above."""
    gate = Gate()
    decisions: list[BaseException | None] = []

    def handler(event: str, _context: object) -> object:
        if event == "race":
            assert gate.passed.wait(BOUND)
            decisions.append(nudged())
        return RESULT

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)

    with parts(nudge=SilentNudge(gate)):
        assert watched("race", Soon()) is RESULT

    assert [type(decision) for decision in decisions] == [LambdaTimeout]


@pytest.mark.usefixtures("blocked")
@pytest.mark.parametrize("limit", [math.inf, 0.02], ids=["invocation", "block"])
def test_nudge_in_finaliser_during_decision_is_deferred(
    monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    """A nudge in a finaliser, which the collector runs during a decision, lands nothing.

    Neither the interrupt that is being decided about lands, nor one of another block.
    """
    gate = Gate()
    main = threading.get_ident()
    nested: list[BaseException | None] = []
    decisions: list[BaseException | None] = []

    def finaliser() -> None:
        nested.append(nudged())

    def cut(_frame: FrameType) -> bool:
        finaliser()
        return True

    def handler(event: str, _context: object) -> object:
        if event == "race":
            with time_limit(limit):
                assert gate.passed.wait(BOUND)
                eventually(everything_due_has_fired, "both to fire")
                monkeypatch.setattr(interrupts, "may_be_cut", cut)
                decisions.append(nudged())
        return RESULT

    def everything_due_has_fired() -> bool:
        clock, both = process_watchdog.clock, of_thread(main)
        return all(one.firing is not None and has_caught_up(one, clock) for one in both)

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)

    with parts(nudge=SilentNudge(gate)):
        assert watched("race", Soon()) is RESULT

    assert nested == [None]
    assert [type(decision) for decision in decisions] == [LambdaTimeout]


@pytest.mark.untraced
def test_late_injection_does_not_reach_next_invocation() -> None:
    """An injection made after settle does not land in the thread's next invocation.

    The watchdog has seen an open invocation, the handler returns, and the watchdog injects.
    """
    gate = Gate()
    invocations: list[Any] = []

    def handler(_event: object, _context: object) -> object:
        invocations.append(active[threading.get_ident()])
        gate.wait_until_reached()
        return RESULT

    def open_once_closed() -> None:
        gate.wait_until_reached()
        eventually(lambda: invocations and not invocations[0].is_open, "the invocation to close")
        gate.open()

    opener = threading.Thread(target=open_once_closed)
    opener.start()
    with parts(injector=GatedInjector(gate)):
        result, landed = on_a_worker(lambda: guard(handler, plan(grace_period=0.01))({}, Soon()))
    opener.join(BOUND)

    assert gate.passed.is_set(), "no injection was made"
    assert result is RESULT
    assert landed == []


class BlockedWorker:
    """A worker whose last operation, a subscript, blocks until the watchdog has injected.

    After a subscript CPython has no check point, while after a call it would have one in the
    handler's own frame. The timeout begins once the worker is blocked.
    """

    def __init__(self) -> None:
        self.gate = Gate()
        self._lock = threading.Lock()
        self._lock.acquire()
        self.slot: defaultdict[object, bool] = defaultdict(self._lock.acquire)

    def run(self, call: Callable[[], object]) -> tuple[object, list[BaseException]]:
        """Run `call`, which subscripts the slot; return its outcome, and what landed after it."""
        opener = threading.Thread(target=self._open_after)
        opener.start()
        with parts(injector=GatedInjector(self.gate, after=True)):
            outcome, landed = on_a_worker(call)
        opener.join(BOUND)
        return outcome, landed

    def _open_after(self) -> None:
        eventually(self._blocked, "the worker to block")
        for invocation in self._blocked():
            let_time_pass(invocation, invocation.timeline().grace_at)
        self.gate.wait_until_reached()
        self.gate.open()
        assert self.gate.passed.wait(BOUND)
        self._lock.release()

    @staticmethod
    def _blocked() -> list[Invocation]:
        """Return the invocation in whose thread a subscript has released the GIL."""
        frames = sys._current_frames()
        return [
            invocation
            for ident, invocation in list(active.items())
            if invocation.is_open and ident in frames and is_at_a_subscript(frames[ident])
        ]


def is_at_a_subscript(frame: FrameType) -> bool:
    operations = {each.offset: each.opname for each in dis.get_instructions(frame.f_code)}
    return operations.get(frame.f_lasti) in {"BINARY_SUBSCR", "BINARY_OP"}


@pytest.mark.untraced
@pytest.mark.parametrize("ends_with", ["a result", "an error"])
def test_injection_landing_in_settle_keeps_the_result(ends_with: str) -> None:
    """An injection that lands in settle leaves the handler's result or error as it is."""
    blocked = BlockedWorker()
    own = ValueError("own")

    def handler(_event: object, _context: object) -> object:
        blocked.slot[0]
        if ends_with == "an error":
            raise own
        return RESULT

    outcome, landed = blocked.run(lambda: guard(handler, plan())({}, Context(LONG)))

    assert outcome is (own if ends_with == "an error" else RESULT)
    assert landed == []


@pytest.mark.untraced
@pytest.mark.parametrize("form", ["function", "C callable"])
def test_result_survives_injection_right_after_return(form: str) -> None:
    """A result is not lost to an injection right after it, even from a C callable."""
    blocked = BlockedWorker()

    def function(slot: dict[object, object], key: object) -> object:
        return slot[key]

    handler = guard(function if form == "function" else operator.getitem, plan())
    outcome, landed = blocked.run(lambda: handler(blocked.slot, Context(LONG)))

    assert outcome is True
    assert landed == []


def test_no_stage_begins_after_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hook runs if the handler ends while the fired watchdog looks at the stacks."""
    gate = Gate()
    called: list[str] = []
    watchdog = Watchdog(grace_period=0.01)
    watchdog.shutdown_hook(lambda _details: called.append("hook"))
    real = snapshot.other_stacks

    def held(*arguments: Any) -> Any:
        gate.hold()
        return real(*arguments)

    monkeypatch.setattr(snapshot, "other_stacks", held)

    @watchdog.watch
    def handler(_event: object, _context: object) -> object:
        gate.wait_until_reached()
        return RESULT

    assert handler({}, Soon()) is RESULT
    gate.open()
    eventually(lambda: not process_watchdog.escalations, "the watchdog to finish")

    assert called == []
    assert landed_outside() == []


def test_settle_waits_for_running_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that ends while hooks run waits for the stage to end.

    Otherwise a half-run hook would continue in the next invocation.
    """
    begun, waits, ended = threading.Event(), threading.Event(), threading.Event()
    later: list[str] = []
    watchdog = Watchdog(grace_period=LONG / 4)
    watchdog.shutdown_hook(lambda _details: later.append("second"))
    real = Stage.wait

    def wait(stage: Stage) -> None:
        waits.set()
        real(stage)

    monkeypatch.setattr(Stage, "wait", wait)

    @watchdog.shutdown_hook
    def slow(_details: object) -> None:
        begun.set()
        assert waits.wait(BOUND)
        threading.Event().wait(0.03)
        ended.set()

    @watchdog.watch
    def handler(_event: object, _context: object) -> object:
        let_time_pass(active[threading.get_ident()], LONG * 3 / 4)
        assert begun.wait(BOUND)
        return RESULT

    assert handler({}, Context(LONG)) is RESULT
    assert ended.is_set()
    assert later == ["second"], "settle did not wait for the stage"


def test_hanging_hook_delays_interrupt_by_its_budget_only() -> None:
    """A hook that hangs delays the interrupt by the hook budget only."""
    begun, release = threading.Event(), threading.Event()
    steps: list[str] = []
    watchdog = Watchdog(grace_period=LONG / 4, hook_budget=LONG / 8)

    @watchdog.shutdown_hook
    def hangs(_details: object) -> None:
        begun.set()
        release.wait(BOUND)

    @watchdog.watch
    def handler(_event: object, _context: object) -> object:
        invocation = active[threading.get_ident()]
        try:
            let_time_pass(invocation, LONG * 3 / 4)
            assert begun.wait(BOUND)
            threading.Event().wait(0.03)
            steps.append("the budget is used up")
            let_time_pass(invocation, LONG * 7 / 8)
            threading.Event().wait(BOUND)
        except TimeoutError:
            return "caught"
        return None

    try:
        assert handler({}, Context(LONG)) == "caught"
    finally:
        release.set()

    assert steps, "the interrupt did not wait for the hook"
