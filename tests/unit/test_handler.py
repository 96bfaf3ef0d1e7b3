"""Tests of the guard: how it arms, closes and hands on. The watchdog is the test's own."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import math
import operator
import sys
import types
import weakref
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock, plan
from watchdog_lambda import Interrupt, LambdaTimeout, _handler, _watched
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._engine import current as _current
from watchdog_lambda._engine.current import active, invocation_of, under_way
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.limits import Limit, innermost
from watchdog_lambda._handler import call_general, guard
from watchdog_lambda._hooks import HookRegistry
from watchdog_lambda._report import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

NOW = 2.0**26
"""Years ahead, so that the process's own watchdog finds nothing due if it reads the same table."""

RESULT = object()


class Remaining:
    """A context of which only the remaining time is used."""

    def __init__(self, milliseconds: Any = 30_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> Any:
        return self.milliseconds


_MOST_INSTRUCTIONS = 112
"""The package's instructions in a call, by the version that has the most of them (3.11)."""


class Fired:
    """Stands for a firing: counts the calls of settle, and can raise an error there."""

    is_reported = True

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self.landing: list[BaseException] = []  # the errors to raise, one in each call
        self.settled = 0

    def settle(self) -> None:
        assert not self._invocation.is_open, "settle ran before the invocation was closed"
        self.settled += 1
        if self.landing:
            raise self.landing.pop(0)


class Scene:
    """Stands for the watchdog, and for the code that runs after a timeout."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.wake_at = -math.inf  # early enough, so that the thread is not woken
        self.rung: list[Invocation] = []
        self.ended: list[Invocation] = []
        self.kernel_timers = SimpleNamespace(dump_for=None, ends=self.ended.append)
        self.concluded: list[tuple[object, object]] = []
        self.seen: list[Invocation] = []

    def wake(self, invocation: Invocation) -> None:
        assert active[get_ident()] is invocation, (
            "the invocation was not registered before the wake"
        )
        self.rung.append(invocation)

    def conclude(
        self, firing: Fired, result: object, failure: BaseException | None
    ) -> tuple[object, BaseException | None]:
        assert firing.settled
        self.concluded.append((result, failure))
        active.pop(get_ident())
        return result, failure

    def watch(self, handler: Callable[..., object], **options: Any) -> Callable[[Any, Any], Any]:
        return guard(handler, plan(**options), self)  # type: ignore[arg-type]

    def call(
        self, handler: Callable[[], object], milliseconds: Any = 30_000, **options: Any
    ) -> Any:
        """Call a handler that needs neither event nor context."""
        watched = self.watch(lambda _event, _context: handler(), **options)
        return watched({}, Remaining(milliseconds))

    def look(self) -> object:
        """A handler that notes the invocation in which it runs."""
        self.seen.append(active[get_ident()])
        return RESULT

    def fire(self, *landing: BaseException) -> Fired:
        """Act as the watchdog on the current invocation; these errors land in settle."""
        fired: Any = Fired(active[get_ident()])
        fired.landing.extend(landing)
        active[get_ident()].is_seen = True
        active[get_ident()].firing = fired
        return fired  # type: ignore[no-any-return]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene()
    monkeypatch.setattr(_handler, "conclude", scene.conclude)
    monkeypatch.setattr(_handler, "process_watchdog", scene)
    yield scene
    active.pop(get_ident(), None)


def fail(error: BaseException) -> object:
    raise error


# ---- arming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "hard", "due"),
    [(30_000, 30.0, 27.0), (4000, 4.0, 3.0), (500, 0.5, 0.375)],
)
def test_instants_are_computed_once(
    milliseconds: int, hard: float, due: float, scene: Scene
) -> None:
    """The instants of an invocation are computed once.

    The grace period is a quarter of the time at most.
    """
    assert scene.call(scene.look, milliseconds, samples=0) is RESULT

    [invocation] = scene.seen
    assert invocation.start == NOW
    assert invocation.hard - NOW == hard
    assert invocation.due - NOW == due
    assert invocation.due - NOW == invocation.timeline().grace_at


@pytest.mark.parametrize("samples", [1, 20])
@pytest.mark.parametrize("milliseconds", [30_000, 4000, 500])
def test_first_look_with_samples_is_at_half_of_the_time(
    scene: Scene, milliseconds: int, samples: int
) -> None:
    """With samples the first look is at half of the time, also if it is computed again."""
    assert scene.call(scene.look, milliseconds, samples=samples) is RESULT

    [invocation] = scene.seen
    assert invocation.due - NOW == milliseconds / 2000
    assert invocation.acts_at() - NOW == invocation.timeline().grace_at
    invocation.reschedule()
    assert invocation.due - NOW == milliseconds / 2000


@pytest.mark.parametrize(
    ("context", "seconds"),
    [
        (Remaining(30_000), 8.0),
        (Remaining(8_001), 8.0),
        (Remaining(7_999), 7.999),
        (Remaining(86_400_000), 8.0),
        (Remaining(3_000_000_000), 8.0),
        (Remaining(0), 8.0),
        (Remaining("soon"), 8.0),
        (None, 8.0),
    ],
)
def test_earlier_of_setting_and_context_time_applies(
    scene: Scene, caplog: pytest.LogCaptureFixture, context: object, seconds: float
) -> None:
    """The invocation's time is the earlier of the setting and the context's time.

    A caller may give up first; a context without a time, or with a wrong one, is ignored.
    """
    watched = scene.watch(lambda _event, _context: scene.look(), timeout=8.0, samples=0)

    assert watched({}, context) is RESULT

    [invocation] = scene.seen
    assert invocation.hard == NOW + seconds
    assert invocation.due == NOW + seconds * 0.75
    assert not caplog.records


def test_early_stage_determines_the_first_instant(scene: Scene) -> None:
    """A stage that a hook has requested ahead of the grace period determines the first instant.

    The watchdog's thread is woken if it would be too late for that.
    """
    scene.wake_at = NOW + 25.0
    registry = HookRegistry()
    key = registry.add("early", lambda _details: None, before=10.0)
    try:
        made = plan(registry, samples=0)
        watched = guard(lambda _e, _c: scene.look(), made, scene)  # type: ignore[arg-type]
        watched({}, Remaining())
    finally:
        registry.remove(key)

    assert scene.seen[0].due == NOW + 20.0
    assert scene.rung == scene.seen


@pytest.mark.parametrize(
    ("wake_at", "rings"), [(NOW + 27.5, True), (NOW + 27.0, False), (NOW + 26.5, False)]
)
def test_thread_is_woken_only_if_it_would_be_late(
    wake_at: float,
    rings: bool,  # noqa: FBT001
    scene: Scene,
) -> None:
    """The watchdog's thread is woken only if it would wake too late.

    Otherwise arming is two stores.
    """
    scene.wake_at = wake_at

    scene.call(scene.look, samples=0)

    assert scene.rung == (scene.seen if rings else [])


def test_metrics_template_is_made_before_the_first_call(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics template is made before the first call.

    The watchdog imports nothing when it fires.
    """
    made: list[object] = []
    monkeypatch.setattr(metrics, "preload", made.append)

    scene.watch(scene.look)

    assert made == [None], "no namespace is set"


# ---- not watched -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "watched"),
    [(0, False), (-500, False), (1, True), (86_400_000, True), (86_400_001, False)],
)
def test_remaining_time_up_to_a_day_is_used(
    milliseconds: int,
    watched: bool,  # noqa: FBT001
    scene: Scene,
) -> None:
    """A remaining time of up to a day is used.

    The handler runs in any case, and its value is the answer.
    """
    armed: list[bool] = []

    def handler() -> object:
        armed.append(invocation_of(get_ident()) is not None)
        return RESULT

    assert scene.call(handler, milliseconds) is RESULT
    assert armed == [watched]


@pytest.mark.parametrize(
    "error", [AttributeError, TypeError, ValueError, OverflowError, KeyError, RuntimeError]
)
def test_failing_context_counts_as_none(error: type[Exception], scene: Scene) -> None:
    """A context that raises is treated as if there were none.

    An error of another kind may be a signal handler's, and is passed on.
    """

    class Broken:
        def get_remaining_time_in_millis(self) -> int:
            raise error

    watched = scene.watch(lambda _event, _context: RESULT)

    if error is RuntimeError:
        with pytest.raises(RuntimeError):
            watched({}, Broken())
    else:
        assert watched({}, Broken()) is RESULT


class Endless:
    """An object that is no number and has a long representation."""

    def __repr__(self) -> str:
        return "x" * 200


class Unspeakable:
    """An object that is no number and whose representation raises."""

    def __repr__(self) -> str:
        raise OSError


class NoProperty:
    """An object that raises when it is asked for the method."""

    @property
    def get_remaining_time_in_millis(self) -> object:
        raise ValueError


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (Remaining("soon"), "remaining time is 'soon' ms; set WATCHDOG_LAMBDA_TIMEOUT"),
        (Remaining(Endless()), f"remaining time is {'x' * 100} ms; set"),
        (Remaining(Unspeakable()), "remaining time is unreadable; set"),
        (NoProperty(), "remaining time is unreadable; set"),
        (object(), "the context, object, has no get_remaining_time_in_millis()"),
    ],
)
def test_log_says_why_the_handler_is_not_watched(
    context: object, said: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why the handler is not watched, within one line."""
    with caplog.at_level(logging.DEBUG, "watchdog_lambda"):
        scene.watch(lambda _event, _context: None)({}, context)

    assert said in caplog.text


def test_each_reason_is_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Each reason is logged once, although it applies to every invocation."""
    watched = scene.watch(lambda _event, _context: None)
    contexts = [Remaining("soon"), Remaining([]), Remaining("later"), object(), None, Remaining([])]
    with caplog.at_level(logging.DEBUG, "watchdog_lambda"):
        for context in contexts:
            watched({}, context)

    assert len(caplog.records) == 3


# ---- an end in time ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, KeyError("order")], ids=["result", "error"])
@pytest.mark.parametrize("is_seen", [False, True])
def test_invocation_that_ends_in_time_is_closed_and_forgotten(
    is_seen: bool,  # noqa: FBT001
    error: BaseException | None,
    scene: Scene,
) -> None:
    """An invocation that ends in time is closed and forgotten.

    The kernel's timers can fire only for one that the watchdog has seen, and only that one is
    ended there.
    """

    def handler() -> object:
        scene.look()
        scene.seen[0].is_seen = is_seen
        return RESULT if error is None else fail(error)

    if error is None:
        assert scene.call(handler) is RESULT
    else:
        with pytest.raises(KeyError) as caught:
            scene.call(handler)
        assert caught.value is error

    assert not scene.seen[0].is_open
    assert invocation_of(get_ident()) is None
    assert scene.ended == (scene.seen if is_seen or error else [])
    assert (get_ident() in active) is not (is_seen or error is not None)
    assert scene.concluded == []


@pytest.mark.parametrize("error", [None, KeyError("order")], ids=["result", "error"])
def test_unfinished_block_ends_with_the_call(error: BaseException | None, scene: Scene) -> None:
    """The limit of a block that the handler has never left ends with the call."""
    limits: list[Limit] = []

    def handler() -> None:
        limits.append(Limit(plan(), NOW, 60.0))
        limits[0].begin()
        active[get_ident()].is_seen = True
        if error is not None:
            raise error

    with contextlib.suppress(KeyError):
        scene.call(handler)

    assert not limits[0].is_open
    assert get_ident() not in innermost


class Own(Exception):
    """An exception class of which weak references can be made."""


def test_reused_invocation_has_each_calls_arguments(scene: Scene) -> None:
    """The object that a thread's calls share has each call's own plan, event and context.

    It keeps no event until the next call.
    """
    told: list[object] = []

    def handler(event: object, context: object) -> None:
        scene.look()
        shared = scene.seen[-1]
        told.append((shared.plan.settings.grace_period, shared.event is event))
        assert shared.context is context

    for grace_period in (3.0, 2.0):
        event = Own()
        left = weakref.ref(event)
        scene.watch(handler, grace_period=grace_period)(event, Remaining())
        del event
        assert left() is None

    assert told == [(3.0, True), (2.0, True)]
    assert scene.seen[0] is scene.seen[1]


@pytest.mark.parametrize("fired", [False, True])
def test_error_is_freed_with_its_last_reference(
    fired: bool,  # noqa: FBT001
    scene: Scene,
) -> None:
    """An error is freed with its last reference.

    No frame of the guard keeps it, and the objects in its traceback, alive until the garbage
    collector runs.
    """

    def handler() -> None:
        if fired:
            scene.fire()
        raise Own

    gc.disable()
    try:
        try:
            scene.call(handler)
        except Own as error:
            left = weakref.ref(error)
            del error
        scene.concluded.clear()
        assert left() is None
    finally:
        gc.enable()


@pytest.mark.untraced
@pytest.mark.parametrize("form", ["entrypoint", "@watch"])
def test_normal_call_is_one_frame_and_few_instructions(form: str, scene: Scene) -> None:
    """A normal call runs one frame of the package and few instructions.

    They are counted, because the time depends on the machine.
    """

    def handler(_event: object, _context: object) -> None: ...

    call: Any = scene.watch(handler)
    if form == "@watch":
        call = _watched._called_as(handler, call)
    given = Remaining(30_000)
    call({}, given)
    called: list[str] = []
    ours = [0]

    def trace(frame: FrameType, kind: str, _argument: object) -> Any:
        if kind == "call" and frame.f_code.co_name != handler.__name__:
            called.append(frame.f_code.co_name)
        frame.f_trace_opcodes = is_ours(frame.f_code)
        ours[0] += kind == "opcode"
        return trace

    before = sys.gettrace()
    # 3.12 traces no frame's instructions unless this is set when tracing begins.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        call({}, given)
    finally:
        sys.settrace(before)

    assert called == ["guarded", "get_remaining_time_in_millis", "monotonic"]
    assert 0 < ours[0] <= _MOST_INSTRUCTIONS


# ---- a timeout ---------------------------------------------------------------------------------


def test_result_passes_through_settle(scene: Scene) -> None:
    """Once the watchdog has acted, a result passes through settle."""
    fired: list[Fired] = []

    def handler() -> object:
        fired.append(scene.fire())
        return RESULT

    assert scene.call(handler) is RESULT
    assert fired[0].settled == 1
    assert scene.concluded == [(RESULT, None)]


@pytest.mark.parametrize("error", [KeyError("order"), LambdaTimeout(), Interrupt()])
def test_error_passes_through_settle(error: BaseException, scene: Scene) -> None:
    """Once the watchdog has acted, an error passes through settle.

    It is the handler's own, or the interrupt that has ended the handler.
    """
    fired: list[Fired] = []

    def handler() -> None:
        fired.append(scene.fire())
        raise error

    with pytest.raises(type(error)) as caught:
        scene.call(handler)

    assert caught.value is error
    assert fired[0].settled == 1
    assert scene.concluded == [(None, error)]


@pytest.mark.parametrize("late", [LambdaTimeout(), Interrupt()])
@pytest.mark.parametrize("error", [None, KeyError("order")], ids=["result", "error"])
def test_interrupt_landing_in_settle_changes_nothing(
    late: BaseException, error: BaseException | None, scene: Scene
) -> None:
    """An interrupt that lands in settle does not change the outcome, and settle is called again."""
    fired: list[Fired] = []

    def handler() -> object:
        fired.append(scene.fire(late))
        return RESULT if error is None else fail(error)

    if error is None:
        assert scene.call(handler) is RESULT
    else:
        with pytest.raises(KeyError):
            scene.call(handler)

    assert fired[0].settled == 2
    assert scene.concluded == [(RESULT, None) if error is None else (None, error)]


def test_signal_handler_error_in_settle_is_raised(scene: Scene) -> None:
    """An error that a user's signal handler raises in settle ends the invocation."""
    fired: list[Fired] = []
    late = KeyError("signal")

    def handler() -> object:
        fired.append(scene.fire(late))
        return RESULT

    with pytest.raises(KeyError) as caught:
        scene.call(handler)

    assert caught.value is late
    assert fired[0].settled == 2
    assert scene.concluded == []
    assert invocation_of(get_ident()) is None


# ---- something lands at one line, as a debugger or profiler can run between any two ------------


class Torn(Invocation):
    """An invocation in which an exception is raised just before it is closed."""

    __slots__ = ("landing",)

    def __init__(self, *given: Any) -> None:
        self.landing: list[BaseException] = []
        super().__init__(*given)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "is_open" and not value and self.landing:
            raise self.landing.pop(0)
        super().__setattr__(name, value)


@pytest.fixture
def torn(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(_current, "Invocation", Torn)
    return scene


def strike(*landing: BaseException) -> None:
    invocation: Any = active[get_ident()]
    invocation.landing.extend(landing)


@pytest.mark.parametrize("late", [LambdaTimeout(), Interrupt()])
def test_interrupt_between_return_and_close_keeps_the_result(
    late: BaseException, torn: Scene
) -> None:
    """An interrupt between return and close does not replace the result, which has been stored."""

    def handler() -> object:
        torn.fire()
        strike(late)
        return RESULT

    assert torn.call(handler) is RESULT
    assert torn.concluded == [(RESULT, None)]


def test_signal_handler_error_between_return_and_close_is_raised(torn: Scene) -> None:
    """A signal handler's error between return and close is raised in the result's place.

    It is the user's, and no interrupt.
    """
    late = KeyError("signal")

    def handler() -> object:
        torn.fire()
        strike(late)
        return RESULT

    with pytest.raises(KeyError) as caught:
        torn.call(handler)

    assert caught.value is late
    assert torn.concluded == [(RESULT, late)]


def test_interrupt_between_error_and_close_is_raised(torn: Scene) -> None:
    """An interrupt between an error and the close is raised. The handler's error is its context."""
    own, late = KeyError("order"), LambdaTimeout()

    def handler() -> object:
        torn.fire()
        strike(late)
        raise own

    with pytest.raises(LambdaTimeout) as caught:
        torn.call(handler)

    assert caught.value is late
    assert late.__context__ is own
    assert torn.concluded == [(None, late)]


# ---- handlers of every form --------------------------------------------------------------------


class Service:
    """A class whose instances are callable, with ``__call__`` in Python."""

    def method(self, event: object, context: object) -> object:
        return self, event, context

    def __call__(self, event: object, context: object) -> object:
        return self.method(event, context)


def plain(event: object, context: object) -> object:
    """A handler in Python."""
    return event, context


async def coroutine(event: object, context: object) -> object:
    """A handler in C."""
    return plain(event, context)


def test_python_functions_are_called_directly() -> None:
    """The guard calls Python functions directly, without a wrapper."""
    service = Service()

    assert _handler._plain(plain) is plain
    assert _handler._plain(service.method) == service.method
    assert _handler._plain(service) == types.MethodType(Service.__call__, service)


@pytest.mark.parametrize(
    "handler",
    [
        coroutine,
        functools.partial(plain),
        functools.partial(coroutine),
        types.MethodType(operator.itemgetter(slice(None)), ()),
        operator.add,
    ],
)
def test_other_callables_are_wrapped_in_a_python_function(handler: Callable[..., object]) -> None:
    """Other callables are wrapped in a Python function.

    When C code returns, an interrupt could land before the result is stored, and the result
    would be lost.
    """
    assert type(_handler._plain(handler)) is types.FunctionType


def test_c_handler_gets_event_and_context(scene: Scene) -> None:
    """C code gets event and context, and its value is the answer."""
    context = Remaining()

    assert scene.watch(functools.partial(plain))(1, context) == (1, context)
    assert scene.watch(coroutine)(2, context) == (2, context)


def test_uncallable_handler_is_kept() -> None:
    """An object that cannot be called is kept as it is, so that it fails when it is called."""
    nothing: Any = 5

    assert _handler._plain(nothing) is nothing


# ---- called by other means ---------------------------------------------------------------------


@pytest.fixture
def general(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(_handler, "guard", functools.partial(guard, watchdog=scene))  # type: ignore[arg-type]
    return scene


@pytest.mark.parametrize("is_async", [False, True])
def test_all_kinds_of_arguments_reach_the_handler(
    is_async: bool,  # noqa: FBT001
    general: Scene,
) -> None:
    """Arguments of every kind reach the handler.

    The context is searched for by its name among the keywords, then from the end, then under
    any other keyword.
    """
    one, other = Remaining(8000), Remaining(16_000)

    def called(*args: object, **kwargs: object) -> object:
        general.look()
        general.seen[-1].is_seen = True  # keeps the invocation from being reused
        return args, kwargs

    async def awaited(*args: object, **kwargs: object) -> object:
        return called(*args, **kwargs)

    handler = awaited if is_async else called
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = [
        ((1, other), {"context": one}),
        ((1, other, one, 2), {"mode": 3}),
        ((1,), {"mode": 3, "ctx": one}),
    ]
    for args, kwargs in calls:
        assert call_general(handler, plan(), args, kwargs) == (args, kwargs)

    assert [invocation.hard for invocation in general.seen] == [NOW + 8.0] * 3
    assert {invocation.context for invocation in general.seen} == {one}


def test_call_without_context_is_made_unwatched(general: Scene) -> None:
    """A call without a context is made, and not watched."""
    assert call_general(lambda *args: (args, *under_way()), plan(), (1, 2, 3), {}) == ((1, 2, 3),)


# ---- one inside of another ---------------------------------------------------------------------


def nested(
    scene: Scene, inner: Callable[[], object], **options: Any
) -> Callable[[], tuple[object, Invocation]]:
    """Return a handler that calls another watched one."""
    watched = scene.watch(lambda _event, _context: inner(), **options)

    def outer() -> tuple[object, Invocation]:
        invocation = active[get_ident()]
        return watched({}, Remaining(1)), invocation

    return outer


def test_inner_options_apply_until_the_inner_handler_returns(scene: Scene) -> None:
    """An inner handler's options apply until it returns.

    The watchdog is woken for both changes, because its next instant may change.
    """
    held: list[tuple[object, float, int]] = []

    def inner() -> object:
        invocation = active[get_ident()]
        settings, fallback = invocation.plan.settings, invocation.plan.fallback
        held.append((fallback, settings.grace_period, len(scene.rung)))
        assert invocation.due == NOW + 30.0 - settings.grace_period
        return RESULT

    outer = nested(scene, inner, fallback="inner", grace_period=5.0)
    result, invocation = scene.call(outer, fallback="outer", samples=0)

    assert result is RESULT
    assert held == [("inner", 5.0, 1)]
    assert (invocation.plan.fallback, invocation.due) == ("outer", NOW + 27.0)
    assert scene.rung == [invocation] * 2


def test_inner_handler_without_options_changes_nothing(scene: Scene) -> None:
    """An inner handler without options changes no plan and wakes no thread."""
    plans: list[object] = []
    outer = nested(scene, lambda: plans.append(active[get_ident()].plan))

    _, invocation = scene.call(outer, fallback="outer")

    assert plans == [invocation.plan]
    assert scene.rung == []


def test_plan_is_fixed_once_the_watchdog_acts(scene: Scene) -> None:
    """Once the watchdog acts the plan is fixed.

    An inner handler's options have no effect if they come later, and are kept if the watchdog
    acts by them.
    """
    outer_plan: list[object] = []

    def before() -> object:
        scene.fire()
        outer_plan.append(active[get_ident()].plan)
        return inner()

    inner = nested(scene, lambda: RESULT, fallback="inner")
    _, invocation = scene.call(before)
    assert [invocation.plan] == outer_plan
    assert scene.rung == []

    outer = nested(scene, scene.fire, fallback="inner")
    _, invocation = scene.call(outer)
    assert invocation.plan.fallback == "inner"
    assert scene.rung == [invocation]


def test_stale_invocation_is_not_an_outer_one(scene: Scene) -> None:
    """An invocation that an ended call has left registered is not taken for an outer one.

    A user's signal handler may have torn the call down between closing and removing.
    """
    left = Invocation(plan(fallback="left"), {}, None, NOW, 1.0, NOW)
    left.is_open, left.is_seen = False, True
    active[get_ident()] = left

    assert scene.call(scene.look) is RESULT

    assert scene.seen != [left]
    assert invocation_of(get_ident()) is None
