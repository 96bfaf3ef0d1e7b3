"""Which interrupt lands next, and when none may, on a fake clock."""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock, plan, standing
from watchdog_lambda import Interrupt, LambdaTimeout, TimeoutDetails
from watchdog_lambda._cpython import bytecode, clauses, syscalls
from watchdog_lambda._cpython.target_frames import TargetFrames
from watchdog_lambda._cpython.waits import LOOKS
from watchdog_lambda._engine import history, interrupts
from watchdog_lambda._engine import rungs as rungs_module
from watchdog_lambda._engine.clock import Stopwatch
from watchdog_lambda._engine.history import InterruptRecord
from watchdog_lambda._engine.interrupts import (
    BLOCKED,
    MOVING,
    PAUSE,
    TRACED,
    InterruptPolicy,
)
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.snapshot import attribute
from watchdog_lambda.errors import LoopInterrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from watchdog_lambda.errors import Landing

START, GRACE_AT, LAST_CALL_AT, HARD = 0.0, 27.0, 29.5, 30.0
DETAILS = TimeoutDetails(deadline=HARD, elapsed=27.0, grace_period=3.0)
STDLIB = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as stacks have it
HERE = [(__file__, 7, "handler")]
WAITS = [(STDLIB + "threading.py", 1, "join"), (STDLIB + "threading.py", 2, "__exit__")]


class Places:
    """A SourceMap in which all code is the user's own, or none of it."""

    def __init__(self) -> None:
        self.own = True

    def has_own(self, _stack: object) -> bool:
        return self.own

    def is_own(self, _file: str) -> bool:
        return self.own

    def is_installed(self, _file: str) -> bool:
        return not self.own

    def location(self, stack: list[tuple[str, int, str]]) -> str:
        return f"app.py:{stack[0][1]} ({stack[0][2]})" if stack else "nowhere"

    def wrappers(self, _stack: object) -> frozenset[tuple[str, str]]:
        return frozenset({("wrapper.py", "wrapped")})


class Rungs:
    """The interrupts of a function of 30 s with a grace period of 3 s, and what they depend on."""

    def __init__(
        self, *, thread_id: int | None = None, seconds: float = 30.0, **settings: Any
    ) -> None:
        bytecode.preload()
        clauses.preload()
        self.clock = FakeClock(GRACE_AT)
        self.invocation = Invocation(plan(**settings), {}, None, START, seconds, GRACE_AT)
        self.places = Places()
        self.policy = InterruptPolicy(
            self.invocation,
            get_ident() if thread_id is None else thread_id,
            self.invocation.timeline(),
            self.places,  # type: ignore[arg-type]
            Stopwatch(self.clock, START),
        )
        self.policy.start(DETAILS)

    def decide(
        self,
        now: float,
        handled: BaseException | None = None,
        *,
        frame: FrameType | None = None,
        stack: list[tuple[str, int, str]] | None = None,
        found: str = BLOCKED,
    ) -> Landing | None:
        self.clock.now = now
        if stack is None and frame is None:
            stack = HERE
        return self.policy.decide(now, frame or standing(), handled, stack=stack, found=found)

    def land(self, now: float, **given: Any) -> Landing:
        """Return the interrupt, which must be due, after it has landed."""
        error = self.decide(now, **given)
        assert error is not None
        error._witness.landed()  # type: ignore[union-attr]
        return error


@pytest.fixture
def rungs() -> Rungs:
    return Rungs()


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow an injection at any place."""
    monkeypatch.setattr(TargetFrames, "allows_from_afar", lambda *_: True)


# ---- the first interrupt -----------------------------------------------------------------------


def test_frames_are_read_only_in_their_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread's own call reads its frames; for another thread a copy of the stack is judged."""
    judged: list[bool] = []

    def next_kind(*_: object, from_afar: bool, **_others: object) -> type[LambdaTimeout]:
        judged.append(from_afar)
        return LambdaTimeout

    monkeypatch.setattr(interrupts, "next_kind", next_kind)
    monkeypatch.setattr(TargetFrames, "allows_from_afar", lambda *_: True)

    Rungs().decide(GRACE_AT, stack=HERE)
    Rungs().decide(GRACE_AT, frame=sys._getframe(), found=TRACED)

    assert judged == [True, False]


def test_nothing_lands_before_start() -> None:
    """No interrupt lands before ``start()``, which is called when the hooks have had their time."""
    rungs = Rungs()
    fresh = InterruptPolicy(
        rungs.invocation,
        get_ident(),
        rungs.invocation.timeline(),
        rungs.places,  # type: ignore[arg-type]
        Stopwatch(rungs.clock, START),
    )

    waiting = [fresh.is_waiting]
    assert (fresh.is_on_its_way, fresh._details) == (False, None)
    assert fresh.decide(HARD, sys._getframe(), None) is None
    fresh.start(DETAILS)
    waiting.append(fresh.is_waiting)
    assert waiting == [True, False]
    assert type(fresh.decide(28.0, standing(), None, stack=HERE)) is LambdaTimeout


def test_first_interrupt_is_lambda_timeout_with_time_and_location(rungs: Rungs) -> None:
    """The first interrupt is a LambdaTimeout with details and place, pending until it lands."""
    error = rungs.decide(GRACE_AT)

    assert type(error) is LambdaTimeout
    assert error.details is DETAILS
    assert str(error) == (
        "interrupted after 27.0 s, 3.0 s before the 30.0 s limit, in app.py:7 (handler)"
    )
    [record] = rungs.policy.records
    assert error._witness is record
    assert (record.name, record.at, record.landed_at) == ("LambdaTimeout", GRACE_AT, None)
    assert record.place == "app.py:7 (handler)"
    assert record.wrappers == rungs.places.wrappers(HERE)
    assert rungs.policy.outcome(record) == "pending"
    rungs.clock.now = 27.25
    record.landed()
    assert record.landed_at == 27.25
    assert rungs.policy.outcome(record) == "delivered"
    assert rungs.policy.first_message() == str(error)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (HARD, "interrupted after 30.0 s, 0.0 s before the 30.0 s limit, in here"),
        (HARD + 2.0, "interrupted after 32.0 s, 2.0 s after the 30.0 s limit, in here"),
    ],
)
def test_message_says_before_or_after_the_limit(now: float, said: str, rungs: Rungs) -> None:
    """The message says "before" the limit, or "after" it where nothing kills the process."""
    assert rungs.invocation.message(now, "here") == said


def test_message_figures_add_up() -> None:
    """The figures add up: 1.25 s and 0.25 s are both rounded down, so 1.0 s have passed."""
    assert Rungs(seconds=1.25).invocation.message(START + 1.0, "here") == (
        "interrupted after 1.0 s, 0.2 s before the 1.2 s limit, in here"
    )


def test_first_message_is_that_of_the_first_interrupt(rungs: Rungs) -> None:
    """``first_message()`` remains the first interrupt's message when others follow."""
    first = str(rungs.land(GRACE_AT))
    rungs.land(GRACE_AT + 1.0)

    assert rungs.policy.first_message() == first


@pytest.mark.usefixtures("anywhere")
def test_message_names_the_awaited_location(rungs: Rungs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stack is an event loop's, the message names the place where a task waits."""

    def with_awaited(stack: Any, _ident: int, code: Any) -> Any:
        return stack if code.has_own(stack) else [("app.py", 3, "waits"), *stack]

    monkeypatch.setattr(interrupts, "with_awaited", with_awaited)

    own = rungs.land(GRACE_AT)
    rungs.places.own = False
    loops = rungs.land(GRACE_AT + 1.0)

    assert str(own).endswith("in app.py:7 (handler)")
    assert str(loops).endswith("in app.py:3 (waits)")


def test_base_or_timeout_hiding_frame_gets_interrupt_first() -> None:
    """The first is an Interrupt if "base" is set, or if a frame would hide a TimeoutError."""
    popen = [(STDLIB + os.path.join("multiprocessing", "popen_fork.py"), 1, "poll"), *HERE]  # noqa: PTH118

    assert type(Rungs(interrupt="base").decide(GRACE_AT)) is Interrupt
    assert type(Rungs().decide(GRACE_AT, stack=popen)) is Interrupt
    assert type(Rungs().decide(GRACE_AT, stack=[])) is LambdaTimeout


def test_nothing_lands_if_closed_or_in_package_frames(rungs: Rungs) -> None:
    """Nothing lands in a closed invocation, without a frame, or in a frame of the package.

    Here the frame is seen through a property that the package reads.
    """
    ours: list[FrameType] = []

    class Context:
        @property
        def name(self) -> str:
            ours.append(sys._getframe(1))
            return ""

    attribute(Context(), "name")

    assert rungs.decide(GRACE_AT, frame=ours[0]) is None
    assert rungs.policy.decide(GRACE_AT, None, None) is None
    rungs.invocation.is_open = False
    assert rungs.decide(GRACE_AT) is None
    assert rungs.policy.records == []


def test_shield_holds_until_last_call(rungs: Rungs) -> None:
    """A shield defers the interrupt, but not beyond last call."""
    rungs.invocation.shields = 1

    assert rungs.decide(LAST_CALL_AT - 0.001) is None
    assert type(rungs.decide(LAST_CALL_AT)) is LambdaTimeout


# ---- further interrupts ------------------------------------------------------------------------


def test_interrupts_land_one_at_a_time_with_pauses(rungs: Rungs) -> None:
    """The next interrupt comes after the previous one has landed, and after a pause."""
    assert rungs.decide(GRACE_AT) is not None
    assert rungs.decide(GRACE_AT + 1.0) is None
    first = rungs.policy.records[0]
    first.landed()

    assert rungs.decide(GRACE_AT + PAUSE / 2) is None
    assert type(rungs.land(GRACE_AT + PAUSE)) is Interrupt
    assert type(rungs.land(GRACE_AT + 3 * PAUSE)) is Interrupt
    assert rungs.policy.first_message().startswith("interrupted after 27.0 s")
    assert [rungs.policy.outcome(r) for r in rungs.policy.records] == [
        "swallowed",
        "swallowed",
        "delivered",
    ]


def test_cleanup_is_interrupted_once_at_last_call(rungs: Rungs) -> None:
    """A cleanup is not interrupted before last call, and then once.

    The cleanup of last call's own interrupt is not interrupted any more.
    """
    error = rungs.land(GRACE_AT)

    assert rungs.decide(LAST_CALL_AT - 0.001, error) is None
    cut = rungs.land(LAST_CALL_AT, handled=error)
    assert rungs.decide(HARD - 0.1, cut) is None
    assert type(rungs.decide(HARD - 0.05)) is Interrupt


@pytest.mark.parametrize(("grace_period", "patience"), [(3.0, 3.0), (0.25, 1.0)])
def test_last_call_cleanup_is_interrupted_after_the_hard_deadline(
    grace_period: float, patience: float
) -> None:
    """Without a kill, last call's own cleanup is interrupted again after the hard deadline.

    It has a grace period, and at least a second, because a worker could otherwise hang for good.
    """
    rungs = Rungs(grace_period=grace_period)
    cut = rungs.land(HARD - 0.001)

    assert rungs.decide(HARD + patience - 0.001, cut) is None
    again = rungs.land(HARD + patience, handled=cut)
    assert type(again) is Interrupt
    assert rungs.decide(HARD + patience * 2 - 0.001, again) is None
    rungs.land(HARD + patience * 2, handled=again)


@pytest.mark.usefixtures("anywhere")
def test_waiting_exit_gets_half_of_the_time(rungs: Rungs, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``__exit__`` that only waits, such as a pool's, gets half of the time to last call."""
    monkeypatch.setattr(syscalls, "threads", list)
    error = rungs.land(GRACE_AT)
    half = (GRACE_AT + LAST_CALL_AT) / 2
    rungs.places.own = False

    assert rungs.decide(half - 0.001, error, stack=WAITS) is None
    assert rungs.decide(half, error, stack=HERE) is None, "a cleanup that does not only wait"
    landed = [rungs.decide(half, error, stack=WAITS) for _ in range(LOOKS)]
    assert [type(each) for each in landed] == [type(None)] * (LOOKS - 1) + [Interrupt]


@pytest.mark.usefixtures("anywhere")
def test_wait_for_computing_threads_is_kept_until_last_call(
    rungs: Rungs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait for threads that compute is not cut before last call.

    It could free what they work on.
    """
    monkeypatch.setattr(syscalls, "threads", lambda: [-1])
    monkeypatch.setattr(syscalls, "state_of", lambda _native_id: "R")
    error = rungs.land(GRACE_AT)
    half = (GRACE_AT + LAST_CALL_AT) / 2
    rungs.places.own = False

    assert not any(rungs.decide(half, error, stack=WAITS) for _ in range(2 * LOOKS))
    assert type(rungs.decide(LAST_CALL_AT, error, stack=WAITS)) is Interrupt


def test_first_and_last_interrupts_are_recorded(rungs: Rungs) -> None:
    """Of 25 interrupts, the first ten and the last ten stay in the record."""
    instants = [GRACE_AT + n * 2 * PAUSE for n in range(25)]
    for instant in instants:
        rungs.land(instant)

    kept = [record.at for record in rungs.policy.records]
    assert kept == instants[:10] + instants[15:]
    assert rungs.policy.left_out == 5


# ---- errors that come from an interrupt --------------------------------------------------------


def chain(length: int, innermost: BaseException) -> BaseException:
    for _ in range(length):
        outer = ValueError()
        outer.__context__ = innermost
        innermost = outer
    return innermost


def caused_by(error: BaseException) -> BaseException:
    outer = ValueError()
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda ours: ours, True),
        (caused_by, True),
        (lambda ours: chain(1, ours), True),
        (lambda ours: chain(99, ours), True),
        (lambda ours: chain(100, ours), False),
        (lambda ours: BaseExceptionGroup("", [ValueError(), ours]), True),
        (lambda ours: caused_by(BaseExceptionGroup("", [chain(2, ours)])), True),
        (lambda _ours: chain(3, ValueError()), False),
        (lambda _ours: LambdaTimeout(), False),
        (lambda _ours: None, False),
    ],
)
def test_error_caused_by_an_interrupt_is_this_timeout(
    make: Callable[[BaseException], BaseException | None], *, holds: bool, rungs: Rungs
) -> None:
    """An error with an interrupt as its cause or context, or in its group, is this timeout.

    At most 100 links of a chain are followed.
    """
    before = rungs.policy.involves(make(ValueError()))
    ours = rungs.land(GRACE_AT)

    assert not before
    assert rungs.policy.involves(make(ours)) is holds


def test_cyclic_exception_chain_ends_the_search(rungs: Rungs) -> None:
    """A cyclic chain of causes or contexts ends the search, and hides no interrupt."""
    ours = rungs.land(GRACE_AT)
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one

    assert not rungs.policy.involves(one)
    other.__context__ = ours
    assert rungs.policy.involves(one)
    one.__cause__, one.__context__ = ours, one
    assert rungs.policy.involves(one)


@pytest.mark.parametrize(
    ("changed", "lost"),
    [
        ({}, True),
        ({"landed_at": None}, False),
        ({"name": "LambdaTimeout"}, False),
        ({"caught_by": lambda: None}, False),
        ({"wrappers": frozenset()}, False),
    ],
)
def test_interrupt_caught_by_a_wrapper_is_lost(
    changed: dict[str, Any], *, lost: bool, rungs: Rungs
) -> None:
    """An interrupt is lost if it has landed, is no TimeoutError, and a wrapper has caught it."""
    code = test_interrupt_caught_by_a_wrapper_is_lost.__code__
    record = {
        "landed_at": GRACE_AT,
        "name": "Interrupt",
        "caught_by": lambda: (code, 0),
        "wrappers": {(code.co_filename, code.co_name)},
    }
    assert not rungs.policy.is_lost_in_a_wrapper()
    rungs.land(GRACE_AT)  # only the last interrupt counts
    assert not rungs.policy.is_lost_in_a_wrapper()

    rungs.policy.records.append(SimpleNamespace(**{**record, **changed}))  # type: ignore[arg-type]

    assert rungs.policy.is_lost_in_a_wrapper() is lost


# ---- deferrals, and handlers that wind up ------------------------------------------------------


@pytest.fixture
def no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the thread be blocked where a raise would leave something broken."""
    monkeypatch.setattr(interrupts, "may_be_cut", lambda _frame: False)


@pytest.mark.parametrize(("grace_period", "longest"), [(3.0, 0.05), (0.25, 0.025)])
@pytest.mark.usefixtures("no_place")
def test_fragile_place_defers_for_a_bounded_time(grace_period: float, longest: float) -> None:
    """An interrupt in a fragile place is deferred by 50 ms, or a tenth of a short grace period."""
    rungs = Rungs(grace_period=grace_period)
    frame = sys._getframe()

    assert rungs.decide(GRACE_AT, frame=frame) is None
    assert rungs.policy.is_put_off
    assert rungs.decide(GRACE_AT + longest * 0.99, frame=frame) is None
    assert not rungs.policy.is_on_its_way
    rungs.land(GRACE_AT + longest, frame=frame)
    assert not rungs.policy.is_put_off


@pytest.mark.parametrize("how", ["shield", "cleanup", "winding up"])
@pytest.mark.usefixtures("no_place")
def test_shield_or_cleanup_restarts_the_deferral(
    how: str, rungs: Rungs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shield, a cleanup or a wind-up ends a deferral, so the next one has its full length."""
    first = rungs.land(GRACE_AT)
    frame = sys._getframe()
    now = GRACE_AT + PAUSE
    assert rungs.decide(now, frame=frame) is None
    put_off = [rungs.policy.is_put_off]

    with monkeypatch.context() as patch:
        handled = first if how == "cleanup" else None
        if how == "shield":
            rungs.invocation.shields = 1
        elif how == "winding up":
            patch.setattr(InterruptPolicy, "is_winding_up", lambda *_: True)
        assert rungs.decide(now + 0.01, handled, frame=frame) is None
    rungs.invocation.shields = 0
    put_off.append(rungs.policy.is_put_off)

    assert put_off == [True, False]
    assert rungs.decide(now + 1.0, frame=frame) is None
    assert rungs.decide(now + 1.049, frame=frame) is None
    rungs.land(now + 1.05, frame=frame)


def test_interrupt_waits_for_cancelled_task_to_clean_up(
    rungs: Rungs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt waits while a task that was cancelled cleans up, half of the time at most.

    A TaskGroup raises what one task got only when the others have ended, and a task may ignore its
    cancellation.
    """
    rungs.land(GRACE_AT)
    frame = sys._getframe()
    monkeypatch.setattr(interrupts, "cleans_up", lambda: True)
    half = (GRACE_AT + 29.5) / 2

    assert rungs.decide(GRACE_AT + PAUSE, frame=frame) is None
    assert rungs.decide(half - 0.01, frame=frame) is None
    rungs.land(half + 0.01, frame=frame)


@pytest.mark.usefixtures("no_place")
def test_package_frame_does_not_end_a_deferral(
    rungs: Rungs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame of the package does not end a deferral, which would begin anew each time."""
    frame = sys._getframe()
    assert rungs.decide(GRACE_AT, frame=frame) is None

    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "is_ours", lambda _code: True)
        assert rungs.decide(GRACE_AT + 0.03, frame=frame) is None
    assert rungs.policy.is_put_off

    rungs.land(GRACE_AT + 0.05, frame=frame)


def test_running_thread_stays_on_its_way_to_a_safe_point(rungs: Rungs) -> None:
    """A running thread stays on its way until it is traced to a safe point.

    There is no limit by the clock, because processor time is what counts.
    """
    frame = sys._getframe()

    for now in (GRACE_AT, GRACE_AT + 1.0):
        assert rungs.decide(now, frame=frame, found=MOVING) is None
        assert rungs.policy.is_put_off
        assert rungs.policy.is_on_its_way
    rungs.land(GRACE_AT + 1.0, frame=frame, found=TRACED)
    assert not rungs.policy.is_put_off
    assert not rungs.policy.is_on_its_way


def test_thread_without_due_interrupt_is_not_on_its_way(rungs: Rungs) -> None:
    """A thread in which no interrupt is due is not on its way, so it is not traced."""
    frame = sys._getframe()
    assert rungs.decide(GRACE_AT, frame=frame, found=MOVING) is None
    rungs.invocation.is_open = False

    assert rungs.decide(GRACE_AT, frame=frame, found=MOVING) is None
    assert not rungs.policy.is_on_its_way


@pytest.mark.parametrize("allows", [True, False, None])
def test_injection_is_deferred_for_a_bounded_time(
    allows: bool | None,  # noqa: FBT001
    rungs: Rungs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An injection is deferred by 50 ms at most, or without limit where it would only do harm."""
    monkeypatch.setattr(TargetFrames, "allows_from_afar", lambda *_: allows)

    instants = (GRACE_AT, GRACE_AT + 0.049, GRACE_AT + 0.05, GRACE_AT + 1.0)

    landed = next((now for now in instants if rungs.decide(now) is not None), None)

    assert landed == {True: GRACE_AT, False: GRACE_AT + 0.05, None: None}[allows]


def test_c_loop_gets_loop_interrupt(rungs: Rungs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits in C gets a LoopInterrupt first: it would log the others and continue."""
    monkeypatch.setattr(rungs_module, "waits_in_c", lambda: True)

    assert type(rungs.decide(GRACE_AT)) is LoopInterrupt


def test_handler_that_caught_the_interrupt_winds_up(rungs: Rungs) -> None:
    """Once a handler has caught the interrupt, its own code may wind up until last call."""
    try:
        raise rungs.land(GRACE_AT)
    except TimeoutError:
        pass

    frame = sys._getframe()
    assert rungs.decide(GRACE_AT + 1.0, frame=frame) is None
    rungs.places.own = False
    assert type(rungs.land(GRACE_AT + 1.0, frame=frame)) is Interrupt, (
        "the code that continues is a library's"
    )


def test_handler_winds_up_from_the_last_interrupt(rungs: Rungs) -> None:
    """A handler that has caught the second interrupt winds up, though the first was dropped."""
    rungs.land(GRACE_AT)
    try:
        raise rungs.land(GRACE_AT + 1.0)
    except Interrupt:
        pass

    assert rungs.decide(GRACE_AT + 2.0, frame=sys._getframe()) is None


def test_compiler_generated_handler_does_not_catch(
    rungs: Rungs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler's own handler, which only turns one error into another, does not catch."""
    try:
        raise rungs.land(GRACE_AT)
    except TimeoutError:
        pass
    monkeypatch.setattr(history, "catches", lambda *_: False)

    assert type(rungs.land(GRACE_AT + 1.0, frame=sys._getframe())) is Interrupt


def test_catcher_of_unraised_interrupt_is_unknown(rungs: Rungs) -> None:
    """An interrupt that was never raised has no record of who caught it."""
    error = LambdaTimeout()
    record = InterruptRecord(error, GRACE_AT, "here", frozenset(), Stopwatch(rungs.clock, START))

    del error

    assert record.caught_by() is None


def test_gevent_gets_loop_interrupt(rungs: Rungs, monkeypatch: pytest.MonkeyPatch) -> None:
    """With gevent loaded the next interrupt is a LoopInterrupt, because its hub prints others."""
    monkeypatch.setitem(sys.modules, "gevent", None)
    rungs.land(GRACE_AT)

    assert type(rungs.land(GRACE_AT + 1.0)) is LoopInterrupt


def test_loop_returning_to_its_try_has_swallowed_the_interrupt(rungs: Rungs) -> None:
    """A loop that is back in the block that it was interrupted in has swallowed the interrupt."""
    frame = sys._getframe()
    kinds: list[str] = []
    for turn in range(2):
        try:
            raise rungs.land(GRACE_AT + turn, frame=frame)
        except (TimeoutError, Interrupt) as error:
            kinds.append(type(error).__name__)

    assert kinds == ["LambdaTimeout", "Interrupt"]
    assert rungs.decide(GRACE_AT + 2.0, frame=frame) is None


def test_lines_show_return_to_the_try_on_another_thread(rungs: Rungs) -> None:
    """In another thread, lines tell whether the handler is back in its ``try``.

    Its instructions cannot be read.
    """
    try:
        raise rungs.land(GRACE_AT)  # this line
    except TimeoutError:
        pass
    code = test_lines_show_return_to_the_try_on_another_thread.__code__
    in_the_try = next(n for n in range(code.co_firstlineno, 9999) if "# this line" in _line(n))
    behind = (__file__, in_the_try + 4, code.co_name)
    elsewhere = (__file__, in_the_try, "other")

    assert rungs.decide(GRACE_AT + 1.0, stack=[elsewhere, behind]) is None
    back = (__file__, in_the_try, code.co_name)
    assert type(rungs.decide(GRACE_AT + 1.0, stack=[elsewhere, back])) is Interrupt


def _line(number: int) -> str:
    import linecache  # noqa: PLC0415

    return linecache.getline(__file__, number)


def test_another_thread_is_assumed_to_run_an_event_loop() -> None:
    """Another thread is assumed to run an event loop if asyncio is loaded.

    It cannot be asked, and a needless LoopInterrupt does less harm than one that is missing.
    """
    rungs = Rungs(thread_id=get_ident() + 1)

    assert type(rungs.land(GRACE_AT)) is LambdaTimeout
    loaded = "asyncio" in sys.modules
    assert type(rungs.land(GRACE_AT + 1.0)) is (LoopInterrupt if loaded else Interrupt)
