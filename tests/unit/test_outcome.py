"""Tests of a timeout's outcome and of the steps before it, on a clock that stands still."""

from __future__ import annotations

import asyncio
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock, plan, services, standing
from tests.unit.still_loop import StillLoop, cleanup, left_running, still
from watchdog_lambda import Interrupt, LambdaTimeout, TimeoutDetails, _outcome
from watchdog_lambda._cpython.source import PACKAGE
from watchdog_lambda._cpython.source import innermost as innermost_entry
from watchdog_lambda._engine import aftermath
from watchdog_lambda._engine.current import active, invocation_of
from watchdog_lambda._engine.invocation import Firing, Invocation
from watchdog_lambda._engine.limits import Limit, innermost
from watchdog_lambda._hooks import HookRegistry
from watchdog_lambda._plan import NO_FALLBACK
from watchdog_lambda._report import tracing as _tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from watchdog_lambda.errors import Landing

__all__ = ["cleanup", "still"]

START = 2.0**26
"""Years ahead, so that the process's own watchdog finds nothing due if it reads the same table."""

GRACE_AT, ENDED, LAST_CALL_AT, LIMIT = 27.0, 27.5, 29.5, 30.0
HARD = START + LIMIT
DETAILS = TimeoutDetails(deadline=HARD, elapsed=27.0, grace_period=3.0, location="app.py:7 (f)")


class Scene:
    """A function of 30 s whose handler has ended 2.5 s before the hard deadline."""

    def __init__(self) -> None:
        self.clock = FakeClock(START + ENDED)
        self.did: list[str] = []  # the steps, in order
        self.written: list[tuple[object, ...]] = []
        self.recycled: str | None = None  # as the record tells
        self.annotating = 0.0  # the seconds that the tracer takes
        self.kernel_timers = SimpleNamespace(
            ends=lambda invocation: self.note("kernel_timers ends", invocation is self.invocation),
            rest=lambda: self.note("kernel_timers rests"),
            nudge_next=lambda _invocation: self.note("kernel_timers nudge_next"),
        )
        self.fire()

    def fire(self, fallback: object = NO_FALLBACK, **settings: object) -> None:
        made = plan(fallback=fallback, **settings)
        self.invocation = Invocation(made, {}, None, START, HARD - START, START + GRACE_AT)
        acts_with = services(self.clock, kernel_timers=self.kernel_timers, report=self)
        self.firing = self.invocation.firing = Firing(self.invocation, get_ident(), acts_with)
        self.firing.fired_at = GRACE_AT
        self.firing.details = DETAILS
        self.policy = self.firing.policy
        self.policy.start(DETAILS)
        self.invocation.is_open = False
        active[get_ident()] = self.invocation

    def note(self, what: str, *given: object) -> None:
        self.did.append(" ".join(map(str, (what, *given))))

    def interrupt(self) -> Landing:
        """Return the next interrupt, which has landed."""
        self.invocation.is_open = True
        stack = [(__file__, 7, "handler")]
        error = self.policy.decide(LIMIT, standing(), None, stack=stack)
        self.invocation.is_open = False
        assert error is not None
        assert error._witness is not None
        error._witness.landed()
        return error

    def annotation(self, _firing: Firing, outcome: str) -> Callable[[], None]:
        def annotate() -> None:
            assert self.invocation.is_open
            self.written.append(("trace", outcome, self.firing.elapsed()))
            self.clock.advance(self.annotating)

        return annotate

    def write(self, firing: Firing, outcome: str, last_resort: str | None = None) -> None:
        assert last_resort is None
        self.written.append(("record", outcome, firing.elapsed()))
        self.recycled = firing.recycled

    def conclude(
        self, result: object = None, failure: BaseException | None = None
    ) -> tuple[Any, BaseException | None]:
        return _outcome.conclude(self.firing, result, failure)

    @property
    def outcome(self) -> object:
        """The outcome in the record."""
        [(_, outcome, _)] = [entry for entry in self.written if entry[0] == "record"]
        return outcome


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene()
    monkeypatch.setattr(_tracing, "annotation", scene.annotation)
    yield scene
    active.pop(get_ident(), None)


def thrown(error: BaseException, *places: str) -> BaseException:
    """Return the error, raised through code of these files, from the outermost to the innermost."""
    function = _made("raise given", places[-1], error)
    for place in reversed(places[:-1]):
        function = _made("given()", place, function)
    try:
        function()
    except BaseException as caught:
        mine = caught.__traceback__
        return caught.with_traceback(None if mine is None else mine.tb_next)
    raise AssertionError


def _made(code: str, file: str, given: object) -> Callable[[], object]:
    namespace: dict[str, Any] = {"given": given}
    exec(compile(f"def made(): {code}", file, "exec"), namespace)  # noqa: S102
    made: Callable[[], object] = namespace["made"]
    return made


def made_of(error: BaseException, *places: str) -> BaseException:
    """Return the error that code of the last of these files makes of an interrupt."""
    outer = RuntimeError("made of it")
    outer.__context__ = error
    return thrown(outer, *places)


def fail(error: BaseException) -> None:
    raise error


def files(traceback: TracebackType | None) -> list[str]:
    found = []
    while traceback is not None:
        found.append(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
    return found


OURS = PACKAGE + "_made.py"
OWN = "/srv/app.py"
LIBRARYS = "/srv/site-packages/lib.py"


# ---- what is seen to ---------------------------------------------------------------------------


def test_conclude_disarms_the_dump(scene: Scene) -> None:
    """After the handler's end no stack dump is armed for its invocation.

    The watchdog may forget it.
    """
    scene.conclude("result")

    assert scene.firing.ended_at == ENDED
    assert scene.firing.is_concluded
    assert scene.did == [
        "kernel_timers nudge_next",
        "kernel_timers ends True",
        "kernel_timers rests",
    ]
    assert invocation_of(get_ident()) is None


def test_invocation_is_closed_despite_a_signal_handler_error(scene: Scene) -> None:
    """The invocation is closed even if a user's signal handler raises in between."""
    scene.firing.stages = [SimpleNamespace(wait=lambda: fail(KeyError("signal")))]  # type: ignore[list-item]

    with pytest.raises(KeyError):
        scene.conclude("result")

    assert scene.firing.is_concluded
    assert scene.did == [
        "kernel_timers nudge_next",
        "kernel_timers ends True",
        "kernel_timers rests",
    ]
    assert invocation_of(get_ident()) is None


def test_loops_and_hooks_end_before_the_record_is_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loops are run out and hooks awaited before the record is written, which has their outcomes.

    The end in the record is the handler's.
    """
    monkeypatch.setattr(_outcome, "_run_out_loops", lambda _firing: scene.note("loops"))

    def wait() -> None:
        scene.note("hooks")
        scene.clock.advance(1.0)

    run: Any = SimpleNamespace(wait=wait, close=lambda: scene.note("hooks are done"))
    scene.firing.stages = [run]

    scene.conclude("result")

    assert scene.did[1:4] == ["loops", "hooks", "hooks are done"]
    assert scene.firing.ended_at == ENDED
    assert [now for _, _, now in scene.written] == [ENDED + 1.0] * 2


@pytest.mark.usefixtures("cleanup")
@pytest.mark.parametrize("is_running", [False, True])
def test_loop_is_run_out_behind_a_shield_until_last_call(
    scene: Scene,
    still: StillLoop,
    is_running: bool,  # noqa: FBT001
) -> None:
    """The tasks of an interrupted loop are cancelled, and have until last call to end.

    Only last call can interrupt them. So it is in a loop that an injection has left running.
    """
    seen: list[object] = []

    async def refuses() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            seen.append((scene.invocation.is_open, scene.invocation.shields))
            await refuses()

    task = still.create_task(refuses())
    still.run_until_complete(asyncio.sleep(0))
    if is_running:
        left_running(still)
    else:
        scene.firing.loops.append(still)

    scene.conclude("result")

    assert seen == [(True, 1)]
    assert not scene.invocation.is_open
    assert still.now == LAST_CALL_AT - ENDED
    assert len(scene.firing.unended) == 1
    assert refuses.__name__ in scene.firing.unended[0]
    assert not still.is_running()
    assert not task.done()


def test_unfinished_block_ends_with_the_invocation(scene: Scene) -> None:
    """The limit of a block that the handler has never left ends with the invocation."""
    limit = Limit(scene.invocation.plan, START + 1.0, 60.0)
    limit.begin()

    scene.conclude("result")

    assert not limit.is_open
    assert get_ident() not in innermost


def test_after_timeout_hooks_run_before_the_record_is_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An after-timeout hook runs behind a shield, and the record has what it has asked for.

    Only last call can interrupt it.
    """
    seen: list[object] = []
    hooks = HookRegistry()
    monkeypatch.setattr(aftermath, "hooks", hooks)
    monkeypatch.setattr(aftermath, "renewal", SimpleNamespace(before_next_event=lambda _left: None))
    scene.firing.details = TimeoutDetails(deadline=HARD, elapsed=27.0, grace_period=3.0)

    def hook(details: TimeoutDetails) -> None:
        seen.append((scene.invocation.is_open, scene.invocation.shields))
        details.recycle()

    hooks.add("hook", hook)
    scene.conclude("result")

    assert seen == [(True, 1)]
    assert not scene.invocation.is_open
    assert scene.recycled == "an after_timeout hook has asked for it"


def test_record_time_includes_the_tracer(scene: Scene) -> None:
    """The record's time includes the seconds that a tracer takes."""
    scene.annotating = 0.25

    scene.conclude("result")

    assert scene.written == [
        ("trace", "returned", ENDED),
        ("record", "returned", ENDED + 0.25),
    ]


def test_handler_reported_as_stuck_is_not_reported_again(scene: Scene) -> None:
    """A handler that was reported as stuck and has ended is not reported again.

    Its value is the answer.
    """
    scene.firing.report("stuck")
    scene.written.clear()

    assert scene.conclude("result") == ("result", None)
    assert scene.written == []


@pytest.mark.parametrize("failure", [None, ValueError("own")], ids=["result", "error"])
def test_end_before_the_grace_period_is_no_timeout(
    failure: BaseException | None, scene: Scene
) -> None:
    """A handler that ends before the grace period has no timeout.

    Only an early stage of hooks has begun.
    """
    scene.firing.fired_at = None
    made = None if failure is None else thrown(failure, OURS, OWN)

    assert scene.conclude("result", made) == ("result", failure)
    assert scene.written == []
    assert made is None or files(made.__traceback__) == [OWN]


# ---- the answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("result", ["result", None])
def test_return_value_is_the_outcome(result: object, scene: Scene) -> None:
    """The handler's return value is the outcome, and None is one, too."""
    assert scene.conclude(result) == (result, None)
    assert scene.outcome == "returned"


def lose_interrupt_in_a_wrapper(scene: Scene) -> None:
    record: Any = SimpleNamespace(
        landed_at=GRACE_AT,
        libraries=(),
        name="Interrupt",
        caught_by=lambda: (fail.__code__, 0),
        wrappers={(fail.__code__.co_filename, "fail")},
    )
    scene.interrupt()
    scene.policy.records.append(record)


def test_none_returned_by_a_wrapper_is_a_timeout(scene: Scene) -> None:
    """A None that a wrapper returns after dropping the interrupt is a timeout.

    The caller would take it for a success.
    """
    lose_interrupt_in_a_wrapper(scene)

    result, failure = scene.conclude(None)

    assert result is None
    assert type(failure) is LambdaTimeout
    assert failure.details is DETAILS
    assert str(failure) == scene.policy.first_message()
    assert scene.outcome == "raised"


def test_value_returned_by_a_wrapper_is_the_outcome(scene: Scene) -> None:
    """Any value but None that a wrapper returns after dropping the interrupt is the outcome."""
    lose_interrupt_in_a_wrapper(scene)

    assert scene.conclude({"statusCode": 504}) == ({"statusCode": 504}, None)
    assert scene.outcome == "returned"


def test_lambda_timeout_is_raised_as_the_landed_instance(scene: Scene) -> None:
    """A LambdaTimeout leaves as the instance that landed.

    Its traceback has no frames of ours, except the guard's, and ends where it was raised.
    """
    landed = thrown(scene.interrupt(), OURS, OWN, LIBRARYS, OURS)

    assert scene.conclude(None, landed) == (None, landed)
    assert type(landed) is LambdaTimeout
    assert files(landed.__traceback__) == [OWN, LIBRARYS]
    assert not hasattr(landed, "__notes__")
    assert scene.outcome == "raised"


def test_interrupt_is_raised_as_lambda_timeout(scene: Scene) -> None:
    """An Interrupt leaves as a LambdaTimeout with the first interrupt's message and details.

    The Interrupt is not its cause.
    """
    scene.fire(interrupt="base")
    interrupt = thrown(scene.interrupt(), OURS, OWN, LIBRARYS, OURS)
    assert type(interrupt) is Interrupt

    _, failure = scene.conclude(None, interrupt)

    assert type(failure) is LambdaTimeout
    assert failure.details is DETAILS
    assert str(failure) == scene.policy.first_message()
    assert failure.__cause__ is None
    assert files(failure.__traceback__) == [OWN, LIBRARYS]
    assert scene.outcome == "raised"


def test_library_error_caused_by_the_interrupt_is_replaced(scene: Scene) -> None:
    """A library's error that was made of the interrupt is replaced by the timeout, as its cause."""
    made = made_of(scene.interrupt(), OURS, OWN, LIBRARYS)

    _, failure = scene.conclude(None, made)

    assert type(failure) is LambdaTimeout
    assert failure.__cause__ is made
    assert files(failure.__traceback__) == [OWN, LIBRARYS]
    assert not hasattr(made, "__notes__")


def test_c_code_error_of_a_severed_wait_is_replaced(scene: Scene) -> None:
    """An error that C code raises because its wait was severed is replaced by the timeout.

    C code has no frame, so the user's own code seems to have raised it.
    """
    made = thrown(ConnectionError("severed"), OURS, OWN)
    raised_at = innermost_entry(made)
    assert raised_at is not None
    scene.policy.severed_at.add((raised_at.tb_frame.f_code, raised_at.tb_lasti))

    _, failure = scene.conclude(None, made)

    assert type(failure) is LambdaTimeout
    assert failure.__cause__ is made


def test_user_error_caused_by_the_interrupt_is_kept(scene: Scene) -> None:
    """An error that the user's own code makes of the interrupt leaves unchanged.

    A note on it names the timeout.
    """
    made = made_of(scene.interrupt(), OURS, LIBRARYS, OWN)

    assert scene.conclude(None, made) == (None, made)
    assert scene.outcome == "raised"
    assert made.__notes__ == [f"watchdog_lambda: {scene.policy.first_message()}"]
    assert files(made.__traceback__) == [LIBRARYS, OWN]


def test_unrelated_library_error_is_raised(scene: Scene) -> None:
    """A library's error that is unrelated to the interrupt goes to the caller.

    The fallback does not replace it. A note says if an interrupt has landed before.
    """
    for lands in (False, True):
        scene.fire(fallback="unused")
        if lands:
            scene.interrupt()
        made = thrown(KeyError("order"), OURS, OWN, LIBRARYS)

        assert scene.conclude(None, made) == (None, made)
        assert hasattr(made, "__notes__") is lands
    assert {outcome for _, outcome, _ in scene.written} == {"raised"}


def test_error_without_frames_is_raised_unchanged(scene: Scene) -> None:
    """An error without frames, or with only ours, is passed on."""
    bare = KeyError("order")
    ours = thrown(KeyError("order"), OURS)

    assert scene.conclude(None, bare) == (None, bare)
    assert bare.__traceback__ is None
    assert scene.conclude(None, ours) == (None, ours)
    assert files(ours.__traceback__) == [OURS]


# ---- the fallback ------------------------------------------------------------------------------


@pytest.mark.parametrize("fallback", [{"statusCode": 504}, None], ids=["value", "null"])
def test_fallback_replaces_the_timeout(fallback: object, scene: Scene) -> None:
    """The fallback's value replaces the timeout, as the same object."""
    scene.fire(fallback=fallback)

    result, failure = scene.conclude(None, thrown(scene.interrupt(), OURS, OWN))

    assert (result is fallback, failure) == (True, None)
    assert scene.outcome == "fallback"


def test_callable_fallback_gets_the_details(scene: Scene) -> None:
    """A callable fallback gets the details, and its value is the answer."""
    scene.fire(fallback=lambda details: ("made", details))

    result, failure = scene.conclude(None, thrown(scene.interrupt(), OURS, OWN))

    assert (result, failure) == (("made", DETAILS), None)
    assert scene.outcome == "fallback"


def test_failing_fallback_raises_the_timeout(scene: Scene) -> None:
    """If the fallback fails the timeout is raised.

    The fallback's error is its cause, and a note says so.
    """
    broken = KeyError("statusCode")
    scene.fire(fallback=lambda _details: fail(broken))
    landed = thrown(scene.interrupt(), OURS, OWN)

    assert scene.conclude(None, landed) == (None, landed)
    assert landed.__cause__ is broken
    assert landed.__notes__ == ["watchdog_lambda: the fallback raised KeyError"]
    assert scene.firing.fallback_error is not None
    assert scene.firing.fallback_error.startswith("KeyError in test_outcome.py:")
    assert scene.outcome == "raised"


@pytest.mark.parametrize(
    ("now", "is_open"),
    [(ENDED, True), (LAST_CALL_AT - 0.125, True), (LAST_CALL_AT, False), (LIMIT, False)],
)
def test_last_call_ends_only_a_fallback_begun_before_it(
    now: float,
    is_open: bool,  # noqa: FBT001
    scene: Scene,
) -> None:
    """A fallback that began before last call can be ended only by last call.

    One that begins later has the remaining time.
    """
    seen: list[tuple[bool, int]] = []
    scene.fire(
        fallback=lambda _details: seen.append((scene.invocation.is_open, scene.invocation.shields))
    )
    scene.clock.now = START + now

    result, failure = scene.conclude(None, thrown(scene.interrupt(), OURS, OWN))

    assert (result, failure) == (None, None)
    assert seen == [(is_open, int(is_open))]
    assert not scene.invocation.is_open


def test_fallback_ended_by_last_call_raises_the_timeout(scene: Scene) -> None:
    """If last call has ended the fallback, the timeout is raised with a note.

    The interrupt that has ended it is not the cause.
    """
    scene.fire(fallback=lambda _details: fail(Interrupt()))
    landed = thrown(scene.interrupt(), OURS, OWN)

    assert scene.conclude(None, landed) == (None, landed)
    assert landed.__cause__ is None
    assert landed.__notes__ == ["watchdog_lambda: the fallback did not return in time"]
    assert scene.firing.fallback_error == "did not return in time"
    assert scene.outcome == "raised"


def test_fallback_ended_by_last_call_keeps_the_cause(scene: Scene) -> None:
    """If last call has ended the fallback, a library's error stays the timeout's cause.

    Only an error of the fallback's own replaces it.
    """
    for ended_by, has_its_own in ((Interrupt(), False), (KeyError("statusCode"), True)):
        scene.fire(fallback=lambda _details, error=ended_by: fail(error))
        made = made_of(scene.interrupt(), OURS, OWN, LIBRARYS)

        _, failure = scene.conclude(None, made)

        assert type(failure) is LambdaTimeout
        assert failure.__cause__ is (ended_by if has_its_own else made)


def test_hooks_beginning_during_a_fallback_are_awaited(scene: Scene) -> None:
    """Hooks that begin during a fallback are awaited like the earlier ones."""
    run: Any = SimpleNamespace(wait=lambda: scene.note("hooks"), close=lambda: None)
    scene.fire(fallback=lambda _details: scene.firing.stages.append(run))

    scene.conclude(None, thrown(scene.interrupt(), OURS, OWN))

    assert scene.did[1] == "hooks"
