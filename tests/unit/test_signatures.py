"""Tests of the arguments of hooks and fallbacks, and of the signatures that are refused."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Context, block
from watchdog_lambda import (
    ConfigurationError,
    LambdaTimeout,
    TimeoutDetails,
    Watchdog,
    _hooks,
    sandbox_shutdown_hook,
    scoped_hook,
    shutdown_hook,
    watch,
)
from watchdog_lambda._signatures import signature_of, takes_event
from watchdog_lambda.testing import FakeContext, expire, isolated_hooks, timeout_records

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT = {"order": 7}


def none() -> None: ...
def one(a: Any) -> None: ...
def two(a: Any, b: Any) -> None: ...
def three(a: Any, b: Any, c: Any) -> None: ...
def one_or_two(a: Any, b: Any = None) -> None: ...
def any_number(*args: Any) -> None: ...
def named(a: Any, *, b: Any) -> None: ...
def any_names(a: Any, **names: Any) -> None: ...
def handler_like(event: Any, context: Any) -> None: ...
def with_event(details: Any, event: Any = None) -> None: ...
def with_more(details: Any, event: Any = None, more: Any = None) -> None: ...
async def later(*_: Any) -> None: ...


class Kinds:
    """A callable object, with methods of each kind."""

    def __call__(self, a: Any) -> None: ...

    def method(self, a: Any) -> None: ...

    @classmethod
    def of_class(cls, a: Any) -> None: ...

    @staticmethod
    def static(a: Any) -> None: ...


TAKES_ONE: list[Any] = [
    one,
    one_or_two,
    any_number,
    any_names,
    Kinds(),
    Kinds().method,
    Kinds.of_class,
    Kinds.static,
    functools.partial(two, 1),
    functools.partial(two, b=1),
    functools.partial(named, b=1),
    functools.partial(functools.partial(three, 1), 2),
    functools.partial(Kinds.method, Kinds()),
    lambda *_: None,
    print,  # C code without a known signature
    [].append,
    Exception,
]

DOES_NOT: list[Any] = [
    none,
    two,
    three,
    named,
    Kinds.method,
    functools.partial(one, 1),
    functools.partial(two, a=1),
    lambda: None,
]


@pytest.mark.parametrize("function", TAKES_ONE)
def test_callable_that_takes_the_details_is_accepted(function: Any) -> None:
    """A callable of any kind that takes the details is accepted as a hook and a fallback.

    It is not called for that.
    """
    with isolated_hooks():
        assert shutdown_hook(function) is function
    assert takes_event(function) is False


@pytest.mark.parametrize("function", DOES_NOT)
def test_callable_that_does_not_take_the_details_is_refused(function: Any) -> None:
    """A callable that does not take the details is refused as a hook, and not registered.

    The error shows a correct signature.
    """
    with pytest.raises(ConfigurationError, match=r"is called with \(details\); write it as"):
        shutdown_hook(function)
    with pytest.raises(ConfigurationError, match=r"is called with \(details\)"):
        Watchdog().shutdown_hook(before=5.0)(function)
    assert not _hooks.shared.snapshot()


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (none, "()"),
        (one_or_two, "(a, b=...)"),
        (any_number, "(*args)"),
        (named, "(a, *, b)"),
        (any_names, "(a, **kwargs)"),
        (functools.partial(three, 1, b=2), "(*, b=..., c)"),
        (Kinds().method, "(a)"),
    ],
)
def test_signature_is_shown_as_written(function: Any, shown: str) -> None:
    """The error shows the signature as it is written, without default values.

    A default may be any object.
    """
    assert str(signature_of(function)) == shown


@pytest.mark.parametrize("function", [two, with_event, with_more, functools.partial(three, 1)])
def test_fallback_with_two_parameters_gets_the_event(function: Any) -> None:
    """A fallback gets the event if its second parameter is required, or optional and so named."""
    assert takes_event(function) is True


@pytest.mark.parametrize("function", [none, three, named, handler_like, functools.partial(one, 1)])
def test_fallback_with_other_parameters_is_refused(function: Any) -> None:
    """A fallback that takes neither, or takes the event first as handlers do, is refused.

    It would get the details in the event's place.
    """
    for register in (lambda: watch(fallback=function), lambda: Watchdog(fallback=function)):
        with pytest.raises(ConfigurationError, match=r"\(details\) or \(details, event\); write"):
            register()
    with pytest.raises(ConfigurationError):
        watch(fallback=function)(one)


def test_optional_parameter_of_another_name_gets_nothing() -> None:
    """An optional second parameter of another name gets nothing.

    It may be a number of retries, or a client.
    """
    assert takes_event(one_or_two) is False


def release(lock_id: str, *, force: bool = False) -> None: ...
def notify(channel: str, /, *, text: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "fits"),
    [
        (release, ("a",), {}, True),
        (release, ("a",), {"force": True}, True),
        (release, (), {"lock_id": "a"}, True),
        (release, (), {}, False),
        (release, ("a", "b"), {}, False),
        (release, ("a",), {"lock_id": "b"}, False),
        (release, ("a",), {"soon": True}, False),
        (notify, ("a",), {"text": "b"}, True),
        (notify, ("a",), {}, False),
        (any_names, ("a",), {"soon": True}, True),
        (one, (), {}, False),
        ([].append, (), {}, True),
    ],
)
def test_scoped_hook_is_checked_against_its_arguments(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, fits: bool
) -> None:
    """A scoped hook is checked against its arguments, by position and by name.

    The error shows none of their values.
    """
    if fits:
        scoped_hook(function, *args, **kwargs)
        return

    with pytest.raises(ConfigurationError, match="give scoped_hook the arguments that it takes"):
        scoped_hook(function, *args, **kwargs)


def test_sandbox_hook_takes_no_arguments() -> None:
    """A sandbox hook takes no arguments, because there are no details."""
    with pytest.raises(ConfigurationError, match=r"takes \(a\), and is called with \(\)"):
        sandbox_shutdown_hook(one)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: shutdown_hook(3), "shutdown_hook(3): not callable; give it a function"),  # type: ignore[call-overload]
        (lambda: scoped_hook("x"), "scoped_hook('x'): not callable; give it a function"),  # type: ignore[arg-type]
        (
            lambda: shutdown_hook(none),  # type: ignore[type-var]
            (
                "shutdown_hook(tests.unit.test_signatures.none): takes (), and is called with "
                "(details); write it as def none(details): ..."
            ),
        ),
        (
            lambda: watch(fallback=lambda: 504),  # type: ignore[arg-type]
            (
                "takes (), and is called with (details) or (details, event); write it as "
                "lambda details, event: ..."
            ),
        ),
        (
            lambda: watch(fallback=later),
            (
                "no event loop to run it; use a plain one, "
                "for example lambda details: asyncio.run(later(details))"
            ),
        ),
        (
            lambda: sandbox_shutdown_hook(later),
            ("no event loop to run it; use a plain one, for example lambda: asyncio.run(later())"),
        ),
    ],
)
def test_message_shows_a_correct_form(register: Callable[[], object], message: str) -> None:
    """The error shows a correct form: a function or a lambda, like the one that was given."""
    with pytest.raises(ConfigurationError) as caught:
        register()

    assert str(caught.value).endswith(message)


@pytest.mark.parametrize("fallback", [3, None, {"statusCode": 504}])
def test_any_value_is_a_fallback(fallback: Any) -> None:
    """A value that is not callable, including None, is a fallback."""
    assert watch(fallback=fallback)(expire)({}, FakeContext()) == fallback


# ---- what they get -----------------------------------------------------------------------------


def test_fallback_gets_details_and_event() -> None:
    """A fallback gets details and event, also a nested handler's, to answer the request."""
    given: list[tuple[TimeoutDetails, object]] = []

    def answer(details: TimeoutDetails, event: object) -> str:
        given.append((details, event))
        return "late"

    handler = watch(fallback=answer)(expire)
    outer = watch(lambda event, context: handler(event, context))

    for called in (handler, outer):
        assert called(EVENT, FakeContext(function_name="orders")) == "late"
        details, event = given.pop()
        assert details.function_name == "orders"
        assert event is EVENT


def test_failing_fallback_is_recorded() -> None:
    """The record has the type and place of a fallback's error.

    It has no message, which may quote the event.
    """

    def answer(_details: TimeoutDetails) -> None:
        raise KeyError("secret")

    with timeout_records() as records, pytest.raises(LambdaTimeout) as caught:
        watch(fallback=answer)(expire)(EVENT, FakeContext())

    [record] = records
    assert record["outcome"] == "raised"
    line = answer.__code__.co_firstlineno + 1
    assert record["fallback_error"] == f"KeyError in test_signatures.py:{line} (answer)"
    assert "secret" not in str(record)
    assert isinstance(caught.value.__cause__, KeyError)


def test_hanging_fallback_is_recorded() -> None:
    """A fallback that hangs is ended by last call, and the record says so."""

    def answer(_details: TimeoutDetails) -> None:
        block()

    # In real time it must have ended within 75 ms of last call, or the record says stuck.
    with timeout_records() as records, pytest.raises(LambdaTimeout):
        watch(fallback=answer)(lambda _e, _c: block())(EVENT, Context(2.4))

    assert [record["fallback_error"] for record in records] == ["did not return in time"]


def test_async_hook_runs_to_its_end_on_its_own_loop() -> None:
    """An async hook, scoped or not, runs to its end on a loop of its own.

    An async handler's loop is another.
    """
    ran: list[tuple[str, object]] = []

    async def flush(details: TimeoutDetails) -> None:
        await asyncio.sleep(0)
        ran.append((details.function_name, asyncio.get_running_loop()))

    async def unlock(lock_id: str) -> None:
        await asyncio.sleep(0)
        ran.append((lock_id, asyncio.get_running_loop()))

    async def handler(_event: object, _context: object) -> None:
        loops.append(asyncio.get_running_loop())
        with scoped_hook(unlock, "lock-1"):
            expire()

    loops: list[object] = []
    with isolated_hooks(), timeout_records() as records:
        assert shutdown_hook(flush) is flush
        with pytest.raises(LambdaTimeout):
            watch(handler)(EVENT, FakeContext())

    assert [name for name, _ in ran] == ["lock-1", "test-function"]
    assert len({id(loop) for loop in (*loops, *(loop for _, loop in ran))}) == 3
    assert [hook["outcome"] for hook in records[0]["hooks"]] == ["ok", "ok"]


def test_failing_async_hook_is_recorded() -> None:
    """An async hook that fails is recorded like any other, with the place in its own code."""

    async def flush(_details: TimeoutDetails) -> None:
        raise KeyError("secret")

    with isolated_hooks(), timeout_records() as records:
        shutdown_hook(flush)
        with pytest.raises(LambdaTimeout):
            watch(expire)(EVENT, FakeContext())

    [hook] = records[0]["hooks"]
    line = flush.__code__.co_firstlineno + 1
    assert (hook["outcome"], hook["error"]) == (
        "raised",
        f"KeyError in test_signatures.py:{line} (flush)",
    )


def test_async_hook_is_ended_with_the_budget() -> None:
    """An async hook that waits endlessly is ended with the budget. The interrupt is not delayed."""
    begun: list[Callable[[], object]] = []

    async def flush(_details: TimeoutDetails) -> None:
        loop, never = asyncio.get_running_loop(), asyncio.Event()
        begun.append(lambda: loop.call_soon_threadsafe(never.set))
        await never.wait()

    with isolated_hooks(), timeout_records() as records:
        shutdown_hook(flush)
        with pytest.raises(LambdaTimeout):
            watch(lambda _e, _c: block())(EVENT, Context(0.6))

    begun[0]()
    assert [hook["outcome"] for hook in records[0]["hooks"]] == ["timed-out"]
