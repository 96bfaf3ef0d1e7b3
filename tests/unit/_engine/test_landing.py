"""What both threads do in one timeout, and which of them may still act, on a fake clock."""

from __future__ import annotations

import sys
import threading
from _thread import RLock, get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock, SilentReport, plan, services
from watchdog_lambda import Interrupt, LambdaTimeout, TimeoutDetails, _outcome
from watchdog_lambda._cpython import bytecode, delivery
from watchdog_lambda._cpython.approach import Approach
from watchdog_lambda._engine import interrupts, landing
from watchdog_lambda._engine.invocation import Firing, Invocation
from watchdog_lambda._engine.landing import inject, land, land_at_shield
from watchdog_lambda._engine.shields import withdraw_for_shield
from watchdog_lambda._plan import is_durable
from watchdog_lambda.errors import LANDING, LoopInterrupt, prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

START, HARD = 1000.0, 1030.0
GRACE_AT, LAST_CALL_AT, LIMIT = 27.0, 29.5, 30.0
DETAILS = TimeoutDetails(deadline=HARD, elapsed=27.0, grace_period=3.0)
DURABLE = {"DurableExecutionArn": "arn", "CheckpointToken": "token"}
ELSEWHERE = -7
"""The id of a thread that does not exist."""


class Injector:
    """Records the injections and withdrawals; nothing lands by itself."""

    def __init__(self) -> None:
        self.injected: list[tuple[int, type[BaseException]]] = []
        self.withdrawn: list[int] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def inject(self, thread_id: int, exception: type[BaseException]) -> bool:
        self.injected.append((thread_id, exception))
        return True

    def withdraw(self, thread_id: int) -> None:
        self.meanwhile()
        self.withdrawn.append(thread_id)


class Scene:
    """A function of 30 s with a grace period of 3 s, at the grace period's beginning."""

    def __init__(
        self, *, thread_id: int | None = None, event: object = None, **settings: Any
    ) -> None:
        bytecode.preload()
        self.clock = FakeClock(START + GRACE_AT)
        self.injector = Injector()
        self.invocation = Invocation(
            plan(**settings), event, None, START, HARD - START, START + GRACE_AT
        )
        self.report = SilentReport()
        thread_id = get_ident() if thread_id is None else thread_id
        self.firing = Firing(
            self.invocation,
            thread_id,
            services(self.clock, injector=self.injector, report=self.report),
        )

    def let_interrupts_land(self) -> None:
        self.firing.policy.start(DETAILS)

    def land(self, frame: FrameType, *, blocked: bool = True) -> BaseException | None:
        """Return what a nudge's handler raises in `frame`, after the watchdog's look."""
        self.firing.looks_blocked = blocked
        return land(self.firing, frame)


@pytest.fixture(autouse=True)
def nothing_stays_prepared() -> Iterator[None]:
    yield
    prepared.clear()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def run(*, is_over: bool = True, said: list[str] | None = None) -> Any:
    """Return a stand-in for a stage of hooks."""
    told = [] if said is None else said
    return SimpleNamespace(
        is_over=lambda: is_over,
        wait=lambda: told.append("wait"),
        close=lambda: told.append("close"),
    )


def is_free(lock: Any) -> bool:
    """Return whether another thread could take the lock now."""
    found: list[bool] = []

    def look() -> None:
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    worker = threading.Thread(target=look)
    worker.start()
    worker.join()
    return found[0]


class Waits(Exception):
    """Stands for a blocking wait, which would hang the test."""


class Taken:
    """A lock that another thread holds."""

    def acquire(self, blocking: bool = True) -> bool:  # noqa: FBT001, FBT002 - as a lock takes it
        if blocking:
            raise Waits
        return False

    def release(self) -> None:
        raise RuntimeError("cannot release un-acquired lock")


# ---- a new firing ------------------------------------------------------------------------------


def test_new_firing_is_empty(scene: Scene) -> None:
    """A new firing has no stages, no records, no details and no report."""
    firing = scene.firing

    assert (firing.invocation, firing.thread_id) == (scene.invocation, get_ident())
    assert (firing.timeline.grace_at, firing.timeline.limit) == (GRACE_AT, LIMIT)
    assert (firing.stages, firing.grace_stage, firing.fired_at, firing.details) == (
        [],
        None,
        None,
        None,
    )
    assert (firing.other_stacks, firing.delivery, firing.loops) == ({}, "none", [])
    assert (firing.ended_at, firing.policy.records) == (None, [])
    assert (firing.is_over, firing.is_concluded) == (False, False)
    assert not firing.is_reported


@pytest.mark.parametrize(
    ("event", "durable"),
    [
        (DURABLE, True),
        ({"DurableExecutionArn": "arn"}, False),
        ({"CheckpointToken": "token"}, False),
        ({}, False),
        ({**DURABLE, "more": 1}, True),
        (None, False),
        (["DurableExecutionArn", "CheckpointToken"], False),
        (7, False),
    ],
)
def test_durable_function_is_recognised_by_its_event(event: object, *, durable: bool) -> None:
    """A durable function is recognised by an event that is a dict with both keys."""
    assert is_durable(event) is durable


class Picky(dict[str, object]):
    """An event whose class a decorator has changed so that ``in`` fails."""

    def __contains__(self, key: object) -> bool:
        raise KeyError(key)


class Unbound:
    """A proxy that is not bound to an object yet."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError


@pytest.mark.parametrize(
    ("make", "durable"), [(Picky, False), (lambda: Picky(DURABLE), True), (Unbound, False)]
)
def test_recognising_durable_runs_no_event_code(
    make: Callable[[], object], *, durable: bool
) -> None:
    """No code of the event runs: if it failed, the invocation would not be watched."""
    assert is_durable(make()) is durable


@pytest.mark.parametrize(
    ("event", "settings", "interrupts"),
    [
        ({}, {}, True),
        ({}, {"interrupt": "none"}, False),
        (DURABLE, {}, False),
        (DURABLE, {"interrupt": "timeout-error"}, True),
        (DURABLE, {"interrupt": "none"}, False),
    ],
)
def test_durable_function_is_interrupted_only_on_request(
    event: object, settings: dict[str, Any], *, interrupts: bool
) -> None:
    """In a durable function an error is final, so it is interrupted only on request."""
    assert Scene(event=event, **settings).firing.may_interrupt is interrupts


# ---- stages ------------------------------------------------------------------------------------


def test_stage_is_published_when_it_begins(scene: Scene) -> None:
    """An early stage is published without ``fired_at``; the grace period's stage sets it."""
    firing, early, grace = scene.firing, run(), run()
    later = TimeoutDetails(deadline=HARD, elapsed=28.0, grace_period=3.0)

    assert firing.begin(early, DETAILS, None)
    after_early = (firing.stages[:], firing.grace_stage, firing.fired_at, firing.details)
    assert firing.begin(grace, later, GRACE_AT)

    assert after_early == ([early], None, None, DETAILS)
    assert firing.stages == [early, grace]
    assert (firing.grace_stage, firing.fired_at, firing.details) == (grace, GRACE_AT, later)


def test_block_at_its_limit_has_fired(scene: Scene) -> None:
    """A block at its limit has fired, with its details, and has no stage of hooks."""
    assert scene.firing.begin(None, DETAILS, GRACE_AT) is True

    firing = scene.firing
    assert (firing.fired_at, firing.details) == (GRACE_AT, DETAILS)
    assert firing.stages == []


def test_left_block_does_not_fire(scene: Scene) -> None:
    """A block that has been left does not fire."""
    scene.invocation.is_open = False

    assert scene.firing.begin(None, DETAILS, GRACE_AT) is False
    assert (scene.firing.fired_at, scene.firing.details) == (None, None)


def test_no_stage_begins_in_a_closed_invocation(scene: Scene) -> None:
    """No stage begins after settle, because the handler's thread has seen which to wait for."""
    scene.invocation.is_open = False

    assert scene.firing.begin(run(), DETAILS, GRACE_AT) is False
    assert (scene.firing.stages, scene.firing.fired_at) == ([], None)


def test_handler_thread_waits_for_each_stage(scene: Scene) -> None:
    """The handler's thread waits for each stage and closes it.

    A half-run hook would continue in another invocation.
    """
    said: list[str] = []
    scene.firing.begin(run(said=said), DETAILS, None)
    scene.firing.begin(run(said=said), DETAILS, GRACE_AT)

    _outcome._wait_for_hooks(scene.firing)

    assert said == ["wait", "close"] * 2


# ---- landing by a nudge ------------------------------------------------------------------------


def test_due_interrupt_lands_in_the_given_frame(scene: Scene) -> None:
    """No interrupt lands before ``start()``; after it, one lands in the frame that is given."""
    early = scene.land(sys._getframe())
    scene.let_interrupts_land()
    scene.clock.now = START + GRACE_AT + 1.0

    error = scene.land(sys._getframe())

    assert early is None
    assert type(error) is LambdaTimeout
    assert error.details is DETAILS
    [record] = scene.firing.policy.records
    assert (record.at, record.landed_at) == (GRACE_AT + 1.0, GRACE_AT + 1.0)


def test_cleanup_is_recognised_by_handled_exception(scene: Scene) -> None:
    """The cleanup of last call's interrupt is not interrupted, but the code after it is."""
    scene.let_interrupts_land()
    scene.clock.now = START + LAST_CALL_AT
    error = scene.land(sys._getframe())
    assert error is not None
    scene.clock.now = START + LIMIT - 0.1

    try:
        raise error
    except LambdaTimeout:
        in_the_cleanup = scene.land(sys._getframe())

    assert in_the_cleanup is None
    assert type(scene.land(sys._getframe())) is Interrupt


class Traced:
    """Stands in for tracing: records which frame would be traced, and what would be asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[tuple[FrameType, Callable[[FrameType], BaseException | None]]] = []
        self.stopped = 0
        monkeypatch.setattr(Approach, "begin", lambda _, *given: self.begun.append(given))
        monkeypatch.setattr(Approach, "stop", lambda _: self.stop())

    def stop(self) -> None:
        self.stopped += 1


def test_running_thread_is_traced_until_landing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running thread is traced until the interrupt lands, or until the invocation settles."""
    traced = Traced(monkeypatch)
    scene.let_interrupts_land()
    frame = sys._getframe()

    assert scene.land(frame, blocked=False) is None
    [(begun, ask)] = traced.begun
    assert begun is frame
    assert traced.stopped == 0
    error = ask(frame)

    assert type(error) is LambdaTimeout
    assert scene.firing.policy.records[0].landed_at is not None
    assert (len(traced.begun), traced.stopped) == (1, 1)
    scene.invocation.is_open = False
    scene.firing.settle()
    assert traced.stopped == 2


def test_nothing_is_traced_if_nothing_is_due(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is traced if no interrupt is due, or if the thread is blocked in a fragile place."""
    traced = Traced(monkeypatch)
    assert scene.land(sys._getframe(), blocked=False) is None
    scene.let_interrupts_land()
    monkeypatch.setattr(interrupts, "may_be_cut", lambda _frame: False)

    assert scene.land(sys._getframe()) is None
    assert traced.begun == []


def test_watchdog_look_is_valid_for_one_nudge(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the watchdog saw is valid for one nudge.

    The kernel's timer may nudge again when the thread has long moved on.
    """
    traced = Traced(monkeypatch)
    scene.let_interrupts_land()
    frame = sys._getframe()
    assert scene.land(frame) is not None
    scene.clock.advance(0.1)

    assert land(scene.firing, frame) is None
    assert len(traced.begun) == 1


def test_tapped_thread_decides_without_injection(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tapped thread counts as running, and decides under the lock, with nothing injected.

    An injection for another block that is on its way prevents its decision.
    """
    traced = Traced(monkeypatch)
    monkeypatch.setattr(Approach, "stands_still", lambda *_, **__: True)
    scene.firing.delivery = "injection"
    scene.let_interrupts_land()
    others = Interrupt("another block's")
    prepared[scene.firing.thread_id] = others
    assert scene.land(sys._getframe()) is None
    assert traced.begun == []

    prepared.clear()
    assert scene.land(sys._getframe()) is None
    [(_, ask)] = traced.begun
    prepared[scene.firing.thread_id] = others
    assert ask(sys._getframe()) is None
    prepared.clear()
    looks: list[bool] = []
    may_land = scene.invocation.may_land
    monkeypatch.setattr(
        type(scene.invocation),
        "may_land",
        lambda _: looks.append(is_free(scene.firing.lock)) or may_land(),  # type: ignore[func-returns-value]
    )
    assert type(ask(sys._getframe())) is LambdaTimeout
    assert looks == [False]


def test_due_interrupt_lands_at_shield_end(scene: Scene) -> None:
    """An interrupt that is due lands at the end of a shield."""
    scene.let_interrupts_land()

    assert type(land_at_shield(scene.firing, sys._getframe())) is LambdaTimeout
    assert scene.firing.policy.records[0].landed_at == GRACE_AT


def test_interrupted_event_loops_are_recorded_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each interrupted event loop is remembered once, to be run out."""
    loops: list[Any] = [None, "first", "first", "second"]
    monkeypatch.setattr(landing, "running_loop", lambda: loops[0])
    scene.let_interrupts_land()

    while loops:
        assert scene.land(sys._getframe()) is not None
        scene.clock.advance(0.1)
        del loops[0]

    assert list[object](scene.firing.loops) == ["first", "second"]


# ---- landing by injection ----------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return a handler that runs in another thread."""
    frame = sys._getframe()
    stack = [(__file__, 7, "handler")]
    monkeypatch.setattr(landing, "frame_of", {ELSEWHERE: frame}.get)
    monkeypatch.setattr(landing, "all_stacks", lambda wanted: {wanted: stack, 1: []})
    scene = Scene(thread_id=ELSEWHERE)
    scene.let_interrupts_land()
    return scene


def test_injected_class_gives_the_prepared_instance(elsewhere: Scene) -> None:
    """An injected class returns the prepared instance, which is pending and names the place."""
    inject(elsewhere.firing, GRACE_AT + 0.5, None)

    error = prepared[ELSEWHERE]
    assert elsewhere.injector.injected == [(ELSEWHERE, LANDING[LambdaTimeout])]
    assert type(error) is LambdaTimeout
    assert str(error).endswith("(handler)")
    [record] = elsewhere.firing.policy.records
    assert (record.at, record.landed_at) == (GRACE_AT + 0.5, None)


def test_tapped_thread_is_not_injected(elsewhere: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that can be tapped is not injected, and the tap is withdrawn at settle."""
    tap = elsewhere.firing.services.tap
    withdrawn: list[int] = []
    tapped: list[int] = []

    def send(who: int, *_: object) -> bool:
        tapped.append(who)
        return True

    monkeypatch.setattr(tap, "send", send, raising=False)
    monkeypatch.setattr(tap, "withdraw", withdrawn.append, raising=False)

    inject(elsewhere.firing, GRACE_AT, None)
    assert tapped == [elsewhere.firing.thread_id]
    assert elsewhere.injector.injected == []
    elsewhere.invocation.is_open = False
    inject(elsewhere.firing, GRACE_AT, None)
    assert len(tapped) == 1
    elsewhere.firing.settle()
    assert withdrawn == [elsewhere.firing.thread_id]


def test_other_threads_loop_is_woken_after_injection(
    elsewhere: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other thread's loop is woken after each injection, and remembered once."""
    woken: list[object] = []
    monkeypatch.setattr(landing, "loop_in", {ELSEWHERE: "its loop"}.get)
    monkeypatch.setattr(
        landing, "wake", lambda loop: woken.append((loop, len(elsewhere.injector.injected)))
    )

    early = Scene(thread_id=ELSEWHERE)
    inject(early.firing, GRACE_AT - 0.5, None)
    assert woken == []
    inject(elsewhere.firing, GRACE_AT, None)
    prepared.clear()
    elsewhere.firing.policy.records[0].landed()
    inject(elsewhere.firing, GRACE_AT + 1.0, KeyError())

    assert woken == [("its loop", 1), ("its loop", 2)]
    assert list[object](elsewhere.firing.loops) == ["its loop"]


def test_nothing_is_injected_if_not_due(elsewhere: Scene) -> None:
    """Nothing is injected before interrupts may land, or while an injection is pending."""
    early = Scene(thread_id=ELSEWHERE)
    inject(early.firing, GRACE_AT - 0.5, None)
    assert early.injector.injected == []
    assert (elsewhere.injector.injected, prepared) == ([], {})
    inject(elsewhere.firing, GRACE_AT, None)
    inject(elsewhere.firing, GRACE_AT + 1.0, None)

    assert len(elsewhere.injector.injected) == 1


def test_nothing_is_injected_into_a_cleanup(elsewhere: Scene) -> None:
    """Nothing is injected while the thread, as the caller says, handles the interrupt."""
    inject(elsewhere.firing, GRACE_AT, None)
    ours = prepared.pop(ELSEWHERE)
    elsewhere.firing.policy.records[0].landed()

    inject(elsewhere.firing, GRACE_AT + 1.0, ours)
    in_the_cleanup = len(elsewhere.injector.injected)
    inject(elsewhere.firing, GRACE_AT + 1.0, KeyError())

    assert in_the_cleanup == 1
    assert [kind for _, kind in elsewhere.injector.injected[1:]] in (
        [LANDING[Interrupt]],
        [LANDING[LoopInterrupt]],
    )


def test_nothing_is_injected_into_a_closed_invocation(elsewhere: Scene) -> None:
    """Nothing is injected after settle: the thread may run the next invocation."""
    elsewhere.invocation.is_open = False

    inject(elsewhere.firing, GRACE_AT, None)

    assert (elsewhere.injector.injected, prepared) == ([], {})


def test_shield_withdraws_a_pending_injection(elsewhere: Scene) -> None:
    """A shield withdraws a pending injection, and its record is removed."""
    inject(elsewhere.firing, GRACE_AT, None)

    withdraw_for_shield(elsewhere.firing)

    assert elsewhere.injector.withdrawn == [ELSEWHERE]
    assert (prepared, elsewhere.firing.policy.records) == ({}, [])


def test_injection_landing_before_withdrawal_is_recorded(elsewhere: Scene) -> None:
    """An injection that lands just before the withdrawal stays in the record."""
    inject(elsewhere.firing, GRACE_AT, None)
    elsewhere.injector.meanwhile = prepared.clear

    withdraw_for_shield(elsewhere.firing)

    assert len(elsewhere.firing.policy.records) == 1


def test_shield_withdraws_nothing_after_landing(elsewhere: Scene) -> None:
    """A shield withdraws nothing if the injection has landed."""
    inject(elsewhere.firing, GRACE_AT, None)
    prepared.clear()

    withdraw_for_shield(elsewhere.firing)

    assert elsewhere.injector.withdrawn == []
    assert len(elsewhere.firing.policy.records) == 1


def test_settle_withdraws_a_pending_injection(elsewhere: Scene) -> None:
    """``settle()`` withdraws a pending injection, and may be called again."""
    inject(elsewhere.firing, GRACE_AT, None)

    elsewhere.firing.settle()
    elsewhere.firing.settle()

    assert elsewhere.injector.withdrawn == [ELSEWHERE]
    assert prepared == {}


def test_holding_holds_the_lock_during_the_call() -> None:
    """``holding()`` holds the lock during the call, and releases it also after an error."""
    lock = RLock()

    def fail() -> None:
        raise KeyError

    assert delivery.holding(lock, lambda: is_free(lock)) is False
    after = is_free(lock)
    with pytest.raises(KeyError):
        delivery.holding(lock, fail)

    assert after
    assert is_free(lock)


def test_error_while_waiting_for_the_lock_is_raised() -> None:
    """An error raised while waiting for the lock gets out, and the lock is not released."""
    done: list[str] = []

    with pytest.raises(Waits):
        delivery.holding(Taken(), lambda: done.append("not reached"))  # type: ignore[arg-type]

    assert done == []


# ---- answering, and the report -----------------------------------------------------------------


def test_watchdog_can_claim_the_answer_repeatedly(scene: Scene) -> None:
    """The watchdog may claim the answer again after it has given it back, and the lock is free."""
    firing = scene.firing
    told: list[bool] = []
    for _ in range(2):
        told += [firing.claim_answer(), is_free(firing._answer)]
        firing.give_answer_back()
        told.append(is_free(firing._answer))

    assert told == [True, False, True] * 2


def test_only_handler_thread_waits_for_the_answer(scene: Scene) -> None:
    """The handler's thread waits for the answer's lock; the watchdog does not, and is refused."""
    scene.firing._answer = Taken()  # type: ignore[assignment]

    assert scene.firing.claim_answer() is False
    scene.invocation.is_open = False
    with pytest.raises(Waits):
        scene.firing.settle()


def test_watchdog_cannot_answer_for_returned_handler(scene: Scene) -> None:
    """The watchdog may not answer for a handler that has returned, and settle does not wait."""
    scene.invocation.is_open = False

    assert scene.firing.claim_answer() is False
    scene.firing.settle()


def test_only_the_first_report_is_written(scene: Scene) -> None:
    """Only the first report is written, and none for an early stage alone."""
    firing = scene.firing
    firing.begin(run(), DETAILS, None)
    early = firing.report("returned")
    assert (early, scene.report.written, firing.is_reported) == (False, [], False)
    firing.begin(run(), DETAILS, GRACE_AT)

    assert firing.report("stuck", "exit") is True
    assert firing.report("returned") is False

    assert scene.report.written == [("stuck", "exit")]
    assert firing.is_reported
    assert is_free(firing.lock)


# ---- until last call ---------------------------------------------------------------------------


def settled(scene: Scene) -> Firing:
    """Return the firing as it is at the handler's end."""
    scene.invocation.is_open = False
    scene.firing.settle()
    return scene.firing


def test_action_runs_in_open_invocation_behind_a_shield(
    elsewhere: Scene,
) -> None:
    """The action runs in an open invocation behind a shield that last call cuts through.

    The watchdog is woken for it, and an injection that is pending at the end is withdrawn.
    """
    seen: list[tuple[bool, int]] = []
    firing, invocation = settled(elsewhere), elsewhere.invocation

    def action() -> None:
        assert elsewhere.clock.alarm.rung == 1
        seen.append((invocation.is_open, invocation.shields))
        inject(firing, LAST_CALL_AT - 0.001, None)
        seen.append((ELSEWHERE in prepared, invocation.shields))
        inject(firing, LAST_CALL_AT, None)

    _outcome._run_until_last_call(firing, action)

    assert seen == [(True, 1), (False, 1)]
    assert (invocation.is_open, invocation.shields) == (False, 0)
    assert len(elsewhere.injector.injected) == 1
    assert (elsewhere.injector.withdrawn, prepared) == ([ELSEWHERE], {})


@pytest.mark.parametrize("error", [LambdaTimeout(), Interrupt(), LoopInterrupt()])
def test_last_call_interrupt_of_action_is_not_raised(scene: Scene, error: BaseException) -> None:
    """Last call's interrupt ends the action, and does not get out."""
    firing = settled(scene)

    def action() -> None:
        raise error

    _outcome._run_until_last_call(firing, action)

    assert (scene.invocation.is_open, scene.invocation.shields) == (False, 0)


def test_error_of_action_is_raised(scene: Scene) -> None:
    """The action's own error gets out, and the invocation is closed."""
    firing = settled(scene)

    def action() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        _outcome._run_until_last_call(firing, action)

    assert (scene.invocation.is_open, scene.invocation.shields) == (False, 0)


def test_interrupted_loops_are_run_out_until_last_call(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted loops are run out one after the other, each with the time left to last call."""
    ran: list[object] = []

    def run_out(loop: object, seconds: float, _unended: object) -> None:
        ran.append((loop, seconds, scene.invocation.is_open))
        scene.clock.advance(1.0)

    monkeypatch.setattr(_outcome, "run_out", run_out)
    firing = settled(scene)
    firing.loops += ["one", "other"]  # type: ignore[list-item]

    _outcome._run_out_loops(firing)

    assert ran == [("one", 2.5, True), ("other", 1.5, True)]
    assert not scene.invocation.is_open


@pytest.mark.parametrize("is_known", [True, False])
def test_loop_marked_as_running_is_run_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    """A loop that is still marked as running is run out once, whether or not it is known.

    An injection does not show which loop's run it has ended.
    """
    ran: list[object] = []
    monkeypatch.setattr(_outcome, "run_out", lambda loop, *_: ran.append(loop))
    monkeypatch.setattr(_outcome, "running_loop", lambda: "left running")
    firing = settled(scene)
    firing.loops += ["left running"] if is_known else []  # type: ignore[list-item]

    _outcome._run_out_loops(firing)

    assert ran == ["left running"]


# ---- the lock ----------------------------------------------------------------------------------


def test_unacquired_lock_is_not_released() -> None:
    """If a user's signal handler raises while the lock is acquired, it is not released."""

    class Lock:
        def acquire(self) -> None:
            raise KeyError("user")

        def release(self) -> None:
            raise RuntimeError("cannot release un-acquired lock")

    lock: Any = Lock()
    with pytest.raises(KeyError, match="user"):
        delivery.holding(lock, lambda: None)


def test_nothing_is_injected_while_another_injection_is_pending(elsewhere: Scene) -> None:
    """Nothing is injected while another block's injection is pending: a thread has one slot."""
    prepared[ELSEWHERE] = LambdaTimeout()

    inject(elsewhere.firing, GRACE_AT, None)

    assert elsewhere.injector.injected == []


def test_nudge_inside_a_decision_lands_nothing() -> None:
    scene = Scene()
    scene.let_interrupts_land()

    landed: list[BaseException | None] = []

    def decide(_frame: FrameType | None) -> None:
        landed.append(scene.land(sys._getframe()))  # as a finaliser would be nudged, in here

    delivery.Nudge(decide)._on_nudge(0, sys._getframe())
    assert landed == [None]

    assert type(scene.land(sys._getframe())) is LambdaTimeout


def test_nothing_lands_if_the_invocation_forbids_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    scene.let_interrupts_land()

    monkeypatch.setattr(Invocation, "may_land", lambda _self: False)

    assert scene.land(sys._getframe()) is None
    assert scene.firing.policy.records == []
