"""Whatever a host gives as context, the handler runs, and is watched if that is possible."""

from __future__ import annotations

import json
import logging
import math
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from watchdog_lambda import LambdaTimeout, _log, remaining_time, watch
from watchdog_lambda._setting import LONGEST_TIMEOUT
from watchdog_lambda.testing import expire, timeout_records

if TYPE_CHECKING:
    from collections.abc import Callable


class Unspeakable:
    """An object that cannot be shown, compared or used in arithmetic."""

    def __repr__(self) -> str:
        raise ValueError("secret")

    __str__ = __repr__

    def __lt__(self, other: object) -> bool:
        raise ValueError("secret")

    __le__ = __gt__ = __ge__ = __lt__

    def __mul__(self, other: object) -> float:
        raise ValueError("secret")

    __rmul__ = __mul__


class Raising:
    """An object whose attributes all raise."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def raises(error: Exception) -> Callable[[], Any]:
    def method() -> Any:
        raise error

    return method


errors = st.sampled_from([ValueError, KeyError, AttributeError, TypeError, ZeroDivisionError])
times = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=5),
    st.builds(Unspeakable),
    st.builds(object),
    st.decimals(),
    st.fractions(),
    st.lists(st.integers(), max_size=2),
)
contexts = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=5),
    st.builds(object),
    errors.map(lambda kind: Raising(kind("secret"))),
    times.map(lambda value: SimpleNamespace(get_remaining_time_in_millis=lambda: value)),
    times.map(lambda value: SimpleNamespace(get_remaining_time_in_millis=value)),
    errors.map(lambda kind: SimpleNamespace(get_remaining_time_in_millis=raises(kind("secret")))),
)


def told(context: object) -> float | None:
    """Return the seconds that a context gives, if an invocation can have so many."""
    try:
        milliseconds: Any = context.get_remaining_time_in_millis()  # type: ignore[attr-defined]
        seconds = milliseconds * 0.001
        usable = 0 < seconds <= LONGEST_TIMEOUT
    except (AttributeError, TypeError, ValueError, ArithmeticError, LookupError):
        return None
    return seconds if usable else None


@given(contexts)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(SimpleNamespace(get_remaining_time_in_millis=lambda: 0.001))
@example(SimpleNamespace(get_remaining_time_in_millis=lambda: Fraction(90_000)))
@example(SimpleNamespace(get_remaining_time_in_millis=lambda: Decimal(90_000)))
def test_handler_runs_once_with_any_context(
    caplog: pytest.LogCaptureFixture, context: object
) -> None:
    """With any context the handler runs once and its value is returned.

    It is watched if the context has a time; otherwise the log says that it is not.
    """
    given_: list[object] = []
    value, watched = object(), []
    _log.said.clear()
    caplog.clear()
    caplog.set_level(logging.DEBUG)

    @watch(interrupt="none")
    def handler(_event: object, context: object) -> object:
        given_.append(context)
        watched.append(remaining_time() < math.inf)
        return value

    # A time of a microsecond, for example, is over before the handler's first line, so that there
    # is a record.
    with timeout_records() as records:
        assert handler({}, context) is value

    assert given_ == [context] or given_[0] is context
    assert watched == [told(context) is not None]
    assert remaining_time() == math.inf
    assert len(records) <= watched[0]
    assert watched[0] or len(caplog.records) == 1
    assert "secret" not in caplog.text


attributes = st.one_of(
    st.none(),
    st.integers(),
    st.text(st.characters(exclude_categories=()), max_size=300),
    st.binary(max_size=10),
    st.builds(Unspeakable),
    st.builds(dict),
)


@given(attributes, attributes, attributes, st.floats(1000.0, 900_000.0))
@settings(max_examples=40)
def test_timeout_is_recorded_with_any_context_attributes(
    request_id: object, name: object, version: object, milliseconds: float
) -> None:
    """A timeout whose context has any attributes gives one record, which is one readable line."""
    context = SimpleNamespace(
        aws_request_id=request_id,
        function_name=name,
        function_version=version,
        get_remaining_time_in_millis=lambda: milliseconds,
    )

    with timeout_records() as records, pytest.raises(LambdaTimeout) as caught:
        watch(lambda _event, _context: expire())({}, context)

    assert len(records) == 1
    assert json.loads(json.dumps(records[0])) == records[0]
    assert caught.value.details is not None
    for key, given_ in (("request_id", request_id), ("function_name", name)):
        assert isinstance(records[0][key], str)
        if isinstance(given_, str):
            assert records[0][key] == given_
