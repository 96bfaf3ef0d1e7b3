"""Tests of the wrapper: its transparency without a timeout, and its outcome with one."""

from __future__ import annotations

import functools
import logging
import math
import operator
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context, block
from watchdog_lambda import (
    Interrupt,
    LambdaTimeout,
    TimeoutDetails,
    Watchdog,
    remaining_time,
    shield,
    watch,
)
from watchdog_lambda._config import Settings
from watchdog_lambda._log import said
from watchdog_lambda._watched import is_watched, wrap
from watchdog_lambda.testing import ClockError, FakeContext, expire

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = object()


def plain(_event: object, _context: object) -> object:
    """A handler."""
    return RESULT


def spin() -> None:
    """Compute until interrupted, for a limited time."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        pass


class Service:
    """A class with a handler of each form."""

    @watch
    def method(self, event: object, _context: object) -> tuple[object, object]:
        return self, event

    @staticmethod
    @watch
    def static(event: object, _context: object) -> object:
        return event

    @classmethod
    @watch
    def of_class(cls, event: object, _context: object) -> tuple[object, object]:
        return cls, event

    def __call__(self, event: object, _context: object) -> tuple[object, object]:
        return self, event


# ---- transparent -------------------------------------------------------------------------------


def test_result_is_the_same_object() -> None:
    """The handler's result is returned as the same object, without a copy or serialisation."""
    assert watch(plain)({}, Context(5.0)) is RESULT
    assert wrap(plain, Settings.from_environ({}))({}, Context(5.0)) is RESULT


def test_metadata_is_that_of_the_handler() -> None:
    """The wrapper has the handler's metadata, for tracers and documentation tools."""
    watched = watch(plain)

    assert (watched.__name__, watched.__doc__, watched.__module__) == (
        "plain",
        "A handler.",
        __name__,
    )
    assert watched.__wrapped__ is plain  # type: ignore[attr-defined]
    assert is_watched(watched)
    assert not is_watched(functools.wraps(watched)(lambda e, c: watched(e, c)))


@pytest.mark.parametrize(
    "error",
    [StopIteration(3), SystemExit(4), KeyboardInterrupt(), GeneratorExit(), ValueError("v")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("opaque", [False, True])
def test_exceptions_are_the_same_object(error: BaseException, *, opaque: bool) -> None:
    """An exception leaves as the same object, including StopIteration and BaseExceptions."""

    def handler(_event: object, _context: object) -> None:
        raise error

    watched = watch(functools.partial(handler) if opaque else handler)

    with pytest.raises(type(error)) as caught:
        watched({}, Context(5.0))

    assert caught.value is error
    assert not getattr(error, "__notes__", [])


def test_all_kinds_of_callables_can_be_handlers() -> None:
    """Functions, methods, partials, callable objects and C callables can be handlers."""
    service, context = Service(), Context(5.0)

    assert service.method(1, context) == (service, 1)
    assert Service.static(2, context) == 2
    assert Service.of_class(3, context) == (Service, 3)
    assert watch(service)(4, context) == (service, 4)
    assert watch(service.__call__)(5, context) == (service, 5)
    assert watch(functools.partial(plain))(6, context) is RESULT
    assert watch(operator.add)(7, 9) == 16


def test_keyword_arguments_reach_the_handler() -> None:
    """A handler that is called with keyword arguments is watched."""

    @watch(grace_period=0.02)
    def handler(event: str, context: Context, *, mode: str = "fast") -> tuple[str, str]:
        if event == "hang":
            block()
        return event, mode

    assert handler(event="go", context=Context(5.0), mode="slow") == ("go", "slow")
    assert handler("go", context=Context(5.0)) == ("go", "fast")
    with pytest.raises(LambdaTimeout):
        handler(event="hang", context=Context(0.08))


def test_disabled_decorator_returns_the_handler_itself() -> None:
    """With `disabled` the decorator returns the handler itself."""
    assert watch(disabled=True)(plain) is plain


def test_handler_disabled_in_code_is_disabled_under_the_entrypoint() -> None:
    """A handler that is disabled in code is disabled under the entrypoint.

    This holds below another decorator as well.
    """

    def handler(_event: object, _context: object) -> float:
        return remaining_time()

    settings = Settings.from_environ({})
    assert wrap(handler, settings)({}, Context(5.0)) < math.inf
    watch(disabled=True)(handler)
    assert wrap(handler, settings)({}, Context(5.0)) == math.inf
    above = functools.wraps(handler)(lambda event, context: handler(event, context))
    assert wrap(above, settings)({}, Context(5.0)) == math.inf
    assert watch(disabled=True)(max) is max, "a C function cannot be marked"


# ---- not watched -------------------------------------------------------------------------------


def test_call_without_context_runs_unwatched_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a context, as in a local test, the handler runs unwatched. The log says so once."""
    said.clear()
    with caplog.at_level(logging.DEBUG, "watchdog_lambda"):
        assert watch(plain)({}, None) is RESULT
        assert watch(plain)({}, {"a": "dict"}) is RESULT

    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "FakeContext" in caplog.text


@pytest.mark.parametrize("handler", [5, None])
def test_uncallable_handler_fails_as_without_the_watchdog(handler: Any) -> None:
    """An object that cannot be called fails as without the watchdog.

    The entrypoint gets whatever object the handler's name stands for.
    """
    kind = type(handler).__name__

    with pytest.raises(TypeError, match=f"'{kind}' object is not callable"):
        wrap(handler, Settings.from_environ({}))({}, Context(5.0))


@pytest.mark.parametrize(
    "remaining", [0, -5, 86_400_001, 3_000_000_000, math.nan, math.inf, "3000", None]
)
def test_absurd_remaining_time_gives_one_warning(
    remaining: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With an absurd remaining time the handler runs unwatched, and the log says once what helps.

    Such a time is zero, negative, over a day, or no number.
    """

    class Odd:
        def get_remaining_time_in_millis(self) -> Any:
            return remaining

    said.clear()
    with caplog.at_level(logging.DEBUG, "watchdog_lambda"):
        assert watch(plain)({}, Odd()) is RESULT
        assert watch(plain)({}, Odd()) is RESULT

    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert repr(remaining) in caplog.text
    assert "WATCHDOG_LAMBDA_TIMEOUT" in caplog.text


def test_timeout_setting_corrects_absurd_remaining_time() -> None:
    """TIMEOUT alone counts if the remaining time is absurd.

    The emulator's Managed Instances mode gives 3,000,000 s.
    """

    class Odd:
        def get_remaining_time_in_millis(self) -> int:
            return 3_000_000_000

    @watch(timeout=0.08, grace_period=0.02)
    def handler(_event: object, _context: object) -> None:
        block()

    with pytest.raises(LambdaTimeout):
        handler({}, Odd())


# ---- a timeout ---------------------------------------------------------------------------------


def test_caller_gets_lambda_timeout_with_times_and_location() -> None:
    """The caller gets a LambdaTimeout that says how long the handler ran and where it was.

    It says how long before which limit, too.
    """

    @watch
    def handler(_event: object, _context: object) -> None:
        block()

    with pytest.raises(LambdaTimeout) as caught:
        handler({}, Context(0.4))

    # On a busy machine it is later than planned.
    said = r"interrupted after 0\.[3-9] s, 0\.\d s (before|after) the 0\.4 s limit, in .* \(block\)"
    assert re.fullmatch(said, str(caught.value))
    assert caught.value.details is not None
    assert caught.value.details.request_id == "request-1"
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "block", "the traceback ends where the handler was"


def test_value_returned_after_catching_is_the_response() -> None:
    """The value of a handler that catches the timeout and returns is the response."""

    @watch(grace_period=0.02)
    def handler(_event: object, _context: object) -> object:
        try:
            block()
        except TimeoutError as timeout:
            return timeout
        return None

    assert isinstance(handler({}, Context(0.08)), LambdaTimeout)


def test_handler_error_at_timeout_is_raised_with_a_note() -> None:
    """An error that the user's code raises at the timeout reaches the caller, with a note."""

    @watch(grace_period=0.02, fallback="unused")
    def handler(_event: object, _context: object) -> None:
        try:
            block()
        except TimeoutError as timeout:
            raise ValueError("order 7 is unfinished") from timeout

    with pytest.raises(ValueError, match="order 7") as caught:
        handler({}, Context(0.08))

    assert caught.value.__notes__[0].startswith("watchdog_lambda: interrupted after 0.1 s")


def test_library_error_caused_by_the_timeout_is_replaced() -> None:
    """An error that a library makes of the timeout is replaced by the timeout.

    An example is urllib3's ReadTimeoutError; here a library's future passes one on.
    """
    from concurrent.futures import Future  # noqa: PLC0415

    @watch(grace_period=0.02)
    def handler(_event: object, _context: object) -> None:
        try:
            block()
        except TimeoutError:
            Future[None]().result(timeout=0)  # raises a TimeoutError of the library's own

    with pytest.raises(LambdaTimeout) as caught:
        handler({}, Context(0.08))

    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "swallow", [Exception, BaseException], ids=["except Exception", "except BaseException"]
)
def test_swallowed_interrupt_is_repeated_until_the_handler_ends(
    swallow: type[BaseException],
) -> None:
    """A handler that swallows the interrupt in a loop is interrupted again until it ends."""
    landed: list[BaseException] = []

    @watch(grace_period=1.0)
    def handler(_event: object, _context: object) -> None:
        while len(landed) < 3:
            try:
                block()
            except swallow as error:
                landed.append(error)
        raise landed[-1]

    with pytest.raises(LambdaTimeout):
        handler({}, Context(1.2))

    kinds = [type(error) for error in landed]
    assert kinds[0] is LambdaTimeout
    assert all(issubclass(kind, Interrupt) for kind in kinds[1:])


def test_base_lands_interrupt_first() -> None:
    """``INTERRUPT=base`` lands an Interrupt, which passes ``except Exception``, from the start.

    It leaves as a LambdaTimeout.
    """

    @watch(grace_period=0.02, interrupt="base")
    def handler(_event: object, _context: object) -> str:
        try:
            block()
        except Exception:
            return "swallowed"
        return "ended"

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.08))


def test_none_runs_hooks_and_lands_nothing() -> None:
    """With ``INTERRUPT=none`` hooks run, nothing lands, and the handler's own answer counts."""
    watchdog = Watchdog(grace_period=0.05, interrupt="none")
    fired = threading.Event()
    watchdog.shutdown_hook(lambda _details: fired.set())

    @watchdog.watch
    def handler(_event: object, _context: object) -> str:
        fired.wait(BOUND)
        threading.Event().wait(0.03)
        return "went on"

    assert handler({}, Context(0.2)) == "went on"
    assert fired.is_set()


@pytest.mark.parametrize(
    "fallback",
    [{"statusCode": 504}, None, lambda details: {"statusCode": 504, "at": details.location}],
    ids=["value", "null", "callable"],
)
def test_fallback_is_returned_instead_of_the_timeout(fallback: Any) -> None:
    """The fallback is a value or a callable that gets the details; None is an answer as well."""

    @watch(grace_period=0.02, fallback=fallback)
    def handler(_event: object, _context: object) -> Any:
        block()

    answer: Any = handler({}, Context(0.08))

    if callable(fallback):
        assert answer["at"].endswith("(block)")
    else:
        assert answer is fallback


class Called:
    """Handlers that are called with other arguments than two positional ones."""

    @watch(fallback=lambda _details, event: event)
    def method(self, event: object, context: object) -> object:
        block()
        return event, context

    @watch(fallback=lambda _details, event: event)
    async def coroutine(self, event: object, context: object) -> object:
        block()
        return event, context

    @classmethod
    @watch(fallback=lambda _details, event: event)
    def of_class(cls, event: object, context: object) -> object:
        block()
        return event, context


@pytest.mark.parametrize("name", ["method", "coroutine", "of_class"])
@pytest.mark.parametrize("named", [(), ("context",), ("event", "context")])
def test_fallback_of_a_method_gets_the_event(name: str, named: tuple[str, ...]) -> None:
    """A fallback of two arguments gets the event, in a method and with keywords too."""
    given: dict[str, object] = {"event": {"id": 7}, "context": Context(0.2)}
    args = [value for key, value in given.items() if key not in named]

    answer = getattr(Called(), name)(*args, **{key: given[key] for key in named})

    assert answer == {"id": 7}


def test_method_of_a_durable_function_is_not_interrupted() -> None:
    """A durable function is recognised in a method, too."""

    class Durable:
        @watch
        def handler(self, event: object, _context: FakeContext) -> object:
            with pytest.raises(ClockError, match="a durable function"):
                expire()
            return event

    event = {"DurableExecutionArn": "arn", "CheckpointToken": "token"}

    assert Durable().handler(event, FakeContext(3.0)) is event


def test_failing_fallback_raises_the_timeout() -> None:
    """If the fallback fails, the caller gets the timeout with the fallback's error as its cause."""

    def broken(_details: TimeoutDetails) -> None:
        raise KeyError("statusCode")

    @watch(grace_period=0.02, fallback=broken)
    def handler(_event: object, _context: object) -> None:
        block()

    with pytest.raises(LambdaTimeout) as caught:
        handler({}, Context(0.08))

    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("hang", [block, spin])
def test_hanging_fallback_is_ended_at_last_call(
    hang: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """A fallback that hangs is ended at last call.

    The caller gets its error and the log its record before the hard deadline.
    """
    context = Context(2.0)

    @watch(fallback=lambda _details: hang())
    def handler(_event: object, _context: object) -> None:
        block()

    with pytest.raises(LambdaTimeout, match=r"\(block\)") as caught:
        handler({}, context)

    assert context.get_remaining_time_in_millis() > 0
    assert "watchdog_lambda: the fallback did not return in time" in caught.value.__notes__
    assert '"outcome": "raised"' in capfd.readouterr().out


def test_timeout_error_of_the_fallback_is_an_ordinary_error() -> None:
    """A TimeoutError that the fallback raises is an ordinary error.

    It is not taken for last call's interrupt.
    """

    def broken(_details: TimeoutDetails) -> None:
        raise LambdaTimeout("made by hand")

    @watch(grace_period=0.02, fallback=broken)
    def handler(_event: object, _context: object) -> None:
        block()

    with pytest.raises(LambdaTimeout, match=r"\(block\)") as caught:
        handler({}, Context(0.08))

    assert str(caught.value.__cause__) == "made by hand"


def test_fallback_after_last_call_is_not_interrupted() -> None:
    """A fallback that begins after last call is not ended by it.

    A handler that has used its time up to then has its fallback all the same.
    """

    def late(_details: TimeoutDetails) -> str:
        threading.Event().wait(0.03)
        return "late"

    @watch(fallback=late)
    def handler(_event: object, _context: object) -> None:
        with shield():
            block()

    assert handler({}, Context(1.2)) == "late"


def test_no_form_of_cleanup_is_interrupted() -> None:
    """No form of cleanup is interrupted.

    It is in a ``finally`` in flight, in a ``finally`` after the catch, or in the code after it.
    """
    steps: list[str] = []
    pause = threading.Event()

    @watch(grace_period=1.0, last_call=0.05)
    def handler(_event: object, _context: object) -> str:
        try:
            try:
                block()
            finally:
                pause.wait(0.06)
                steps.append("in flight")
        except TimeoutError:
            pause.wait(0.06)
            steps.append("except")
        finally:
            pause.wait(0.06)
            steps.append("finally")
        pause.wait(0.06)
        steps.append("after")
        return "wound up"

    assert handler({}, Context(1.5)) == "wound up"
    assert steps == ["in flight", "except", "finally", "after"]


def test_endless_cleanup_is_interrupted_at_last_call() -> None:
    """A cleanup that never ends is interrupted at last call, so that the caller is answered."""

    @watch(grace_period=0.5)
    def handler(_event: object, _context: object) -> None:
        try:
            block()
        finally:
            block()

    context = Context(2.0)
    with pytest.raises(LambdaTimeout):
        handler({}, context)

    assert 0 < context.get_remaining_time_in_millis() < 200


# ---- nested, remaining time --------------------------------------------------------------------


def test_nested_watched_handlers_are_one_invocation() -> None:
    """A watched handler inside of another one is one invocation.

    The inner one's options and fallback apply.
    """

    @watch(grace_period=0.02, fallback="inner")
    def inner(_event: object, _context: object) -> None:
        block()

    @watch
    def outer(event: object, context: object) -> str:
        assert remaining_time() < 5.0
        inner(event, context)
        return "not reached"

    context = Context(0.4)

    assert outer({}, context) == "inner"
    assert context.get_remaining_time_in_millis() < 40, "the inner grace period was in force"


def test_outer_options_apply_again_after_the_inner_handler() -> None:
    """Once the inner handler has returned the outer options and fallback apply again."""

    @watch(fallback="inner", grace_period=0.01)
    def inner(_event: object, _context: object) -> None: ...

    @watch(fallback="outer", grace_period=0.03)
    def outer(event: object, context: object) -> None:
        inner(event, context)
        block()

    assert outer({}, Context(0.15)) == "outer"


def test_watched_handler_is_not_wrapped_again_by_the_entrypoint() -> None:
    """Under the entrypoint a handler of ``@watch`` gets no second wrapper.

    It gets one if another decorator is above it.
    """
    watched = watch(plain)
    settings = Settings.from_environ({})

    assert wrap(watched, settings) is watched
    assert wrap(functools.wraps(watched)(lambda e, c: watched(e, c)), settings) is not watched


def test_remaining_time_is_finite_only_in_an_invocation() -> None:
    """The remaining time counts to the invocation's hard deadline, and is infinite outside.

    In the handler's threads it is the same.
    """
    seen: list[float] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        seen.append(remaining_time())
        worker = threading.Thread(target=lambda: seen.append(remaining_time()))
        worker.start()
        worker.join()

    handler({}, Context(5.0))

    assert remaining_time() == math.inf
    assert all(4.0 < remaining <= 5.0 for remaining in seen)
    assert len(seen) == 2


def test_repr_shows_the_given_options() -> None:
    """The repr shows the options that were given, for debugging."""
    assert repr(Watchdog(grace_period=2.0)) == "Watchdog(grace_period=2.0)"
