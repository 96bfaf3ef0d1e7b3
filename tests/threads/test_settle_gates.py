"""Settle against fire: the watchdog held at every dangerous point while the handler ends."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context, eventually, landed_outside, plan
from tests.threads.gates import Gate, GatedInjector, GatedNudge, SilentNudge, parts
from watchdog_lambda import LambdaTimeout, Watchdog
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._engine import interrupts, snapshot
from watchdog_lambda._engine.current import active
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._handler import guard
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

RESULT = object()
SHORT = 0.04
"""Seconds of an invocation that is to fire soon."""


def ready(watched: Callable[[Any, Any], object]) -> None:
    """Have the nudge installed and the thread running before parts are exchanged."""
    watched("ok", Context(60.0))


def on_a_worker(call: Callable[[], object]) -> tuple[object, list[BaseException]]:
    """Run a watched call off the main thread; its result or error, and what landed after it."""
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
    assert not worker.is_alive(), "the worker is stuck"
    return outcome[0], landed


def test_a_nudge_sent_after_settle_does_nothing() -> None:
    """The watchdog has decided to nudge; the handler returns.

    The signal comes in the runtime's loop.
    """
    gate = Gate()

    def handler(event: str, _context: object) -> object:
        if event != "ok":
            gate.wait_until_reached()
        return RESULT

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)

    with parts(nudge=GatedNudge(gate)):
        result = watched("race", Context(SHORT))
        gate.open()
        assert gate.passed.wait(BOUND)
        landed = landed_outside()

    assert result is RESULT
    assert landed == []


def test_a_nudge_sent_after_settle_does_not_reach_the_next_invocation() -> None:
    """The same, with the next handler already running when the signal comes."""
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
        assert watched("race", Context(SHORT)) is RESULT
        assert watched("next", Context(60.0)) is RESULT


@pytest.mark.parametrize("ends_with", ["a result", "an error"])
def test_no_instruction_of_ours_lets_an_interrupt_land(ends_with: str) -> None:
    """At every single instruction from the handler's end to the runtime the decision is: not now.

    The interrupt is due all the time; the positive control is the handler's own frame.
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
        sys._getframe(1).f_trace = trace_ours
        sys._getframe(1).f_trace_opcodes = True
        if ends_with == "an error":
            raise own
        return RESULT

    def trace(frame: FrameType, _kind: str, _argument: object) -> Any:
        return trace_ours if is_ours(frame.f_code) else None

    def trace_ours(frame: FrameType, _kind: str, _argument: object) -> Any:
        frame.f_trace_opcodes = True
        firing = invocations[0].firing
        assert firing is not None
        firing.looks_blocked = True  # wherever it is: no trace function is set for it
        decisions.append((frame.f_code.co_name, process_watchdog._decide(frame)))
        return trace_ours

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)
    before = sys.gettrace()
    outcome: object
    try:
        with parts(nudge=SilentNudge(gate)):
            try:
                outcome = watched("race", Context(SHORT))
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


def nudged() -> BaseException | None:
    """What a nudge raises in the caller, which the watchdog has seen blocked."""
    firing = active[threading.get_ident()].firing
    assert firing is not None
    firing.looks_blocked = True
    return process_watchdog._decide(sys._getframe(1))


def test_an_interrupt_lands_in_the_handlers_own_frame() -> None:
    """The control of the test above: asked for the handler's frame, the decision is to land."""
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
        assert watched("race", Context(SHORT)) is RESULT

    assert [type(decision) for decision in decisions] == [LambdaTimeout]


def test_a_nudge_in_a_finaliser_inside_of_a_decision_is_put_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The collector can run user code in the middle of a decision, and a nudge strike in it."""
    gate = Gate()
    nested: list[BaseException | None] = []
    decisions: list[BaseException | None] = []

    def finaliser() -> None:
        nested.append(process_watchdog._decide(sys._getframe()))

    def cut(_frame: FrameType) -> bool:
        finaliser()
        return True

    def handler(event: str, _context: object) -> object:
        if event == "race":
            assert gate.passed.wait(BOUND)
            monkeypatch.setattr(interrupts, "may_be_cut", cut)
            decisions.append(nudged())
        return RESULT

    watched = guard(handler, plan(grace_period=0.01))
    ready(watched)

    with parts(nudge=SilentNudge(gate)):
        assert watched("race", Context(SHORT)) is RESULT

    assert nested == [None]
    assert [type(decision) for decision in decisions] == [LambdaTimeout]


@pytest.mark.untraced
def test_late_injection_does_not_reach_the_next_invocation() -> None:
    """The watchdog has seen an open invocation; the handler returns; the watchdog injects."""
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
        result, landed = on_a_worker(
            lambda: guard(handler, plan(grace_period=0.01))({}, Context(SHORT))
        )
    opener.join(BOUND)

    assert gate.passed.is_set(), "the injection was made"
    assert result is RESULT
    assert landed == []


@pytest.mark.untraced
@pytest.mark.parametrize("ends_with", ["a result", "an error"])
def test_an_injection_that_lands_in_settle_leaves_the_result(ends_with: str) -> None:
    """Injected while the handler's last operation blocks, it lands at our first check point.

    The operation is a subscript, after which CPython has no check point; a call would have one, in
    the handler's own frame.
    """
    gate = Gate()
    blocked = threading.Lock()
    blocked.acquire()
    own = ValueError("own")

    def handler(_event: object, _context: object) -> object:
        slot: defaultdict[int, bool] = defaultdict(blocked.acquire)
        slot[0]
        if ends_with == "an error":
            raise own
        return RESULT

    def open_after() -> None:
        gate.wait_until_reached()
        gate.open()
        assert gate.passed.wait(BOUND)
        blocked.release()

    opener = threading.Thread(target=open_after)
    opener.start()
    with parts(injector=GatedInjector(gate, after=True)):
        outcome, landed = on_a_worker(
            lambda: guard(handler, plan(grace_period=0.01))({}, Context(0.4))
        )
    opener.join(BOUND)

    assert outcome is (own if ends_with == "an error" else RESULT)
    assert landed == []


@pytest.mark.parametrize("form", ["function", "C callable"])
def test_a_result_is_not_lost_to_what_lands_right_after_it(form: str) -> None:
    """The same through a handler that is no plain function: its result is stored before a check."""
    gate = Gate()
    blocked = threading.Lock()
    blocked.acquire()

    def function(_event: object, _context: object) -> object:
        slot: defaultdict[int, bool] = defaultdict(blocked.acquire)
        return slot[0]

    class Opaque(defaultdict[object, object]):
        """A handler of C code: subscript, with the context as its default."""

    opaque = Opaque(blocked.acquire)
    handler = function if form == "function" else (lambda event, _context: opaque[event])

    def open_after() -> None:
        gate.wait_until_reached()
        gate.open()
        assert gate.passed.wait(BOUND)
        blocked.release()

    opener = threading.Thread(target=open_after)
    opener.start()
    with parts(injector=GatedInjector(gate, after=True)):
        outcome, landed = on_a_worker(
            lambda: guard(handler, plan(grace_period=0.01))(0, Context(0.4))
        )
    opener.join(BOUND)

    assert outcome is True
    assert landed == []


def test_no_stage_begins_after_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog has fired and is looking at the stacks; the handler ends; no hook is called."""
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

    assert handler({}, Context(SHORT)) is RESULT
    gate.open()
    eventually(lambda: not process_watchdog.escalations, "the watchdog to let go of it")

    assert called == []
    assert landed_outside() == []


def test_hooks_under_way_are_waited_for() -> None:
    """A handler that ends while hooks run does not hand a half-run hook to the next invocation."""
    begun, ended = threading.Event(), threading.Event()
    later: list[str] = []
    watchdog = Watchdog(grace_period=0.3)
    watchdog.shutdown_hook(lambda _details: later.append("second"))

    @watchdog.shutdown_hook
    def slow(_details: object) -> None:
        begun.set()
        threading.Event().wait(0.03)
        ended.set()

    @watchdog.watch
    def handler(_event: object, _context: object) -> object:
        assert begun.wait(BOUND)
        return RESULT

    assert handler({}, Context(1.3)) is RESULT
    assert ended.is_set()
    assert later == ["second"], "a stage that has begun is seen through"


def test_a_hanging_hook_delays_neither_the_interrupt_nor_the_answer_beyond_its_budget() -> None:
    """The budget is a third of the grace period; after it the interrupt goes ahead."""
    release = threading.Event()
    watchdog = Watchdog(grace_period=0.3, hook_budget=0.1)
    watchdog.shutdown_hook(lambda _details: release.wait(BOUND))

    @watchdog.watch
    def handler(_event: object, _context: object) -> object:
        try:
            threading.Event().wait(BOUND)
        except TimeoutError:
            return "caught"
        return None

    context = Context(1.2)
    try:
        assert handler({}, context) == "caught"
    finally:
        release.set()

    assert 100 < context.get_remaining_time_in_millis() < 220
