"""If nothing is watched, a test that moves time gets an error that says why."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from watchdog_lambda import watch
from watchdog_lambda.testing import ClockError, FakeContext, expire

NAMES_IT = r"; call the handler with a watchdog_lambda\.testing\.FakeContext\(\)"


@watch
def handler(_event: object, _context: object) -> None:
    expire()


@pytest.mark.parametrize(
    ("context", "why"),
    [
        (None, r"its context, NoneType, has no get_remaining_time_in_millis\(\)"),
        ({}, r"its context, dict, has no get_remaining_time_in_millis\(\)"),
        (Mock(), "its context, Mock, gives no usable remaining time, but Mock"),
        (
            SimpleNamespace(get_remaining_time_in_millis=lambda: 0),
            "its context, SimpleNamespace, gives no usable remaining time, but int",
        ),
    ],
)
def test_error_names_a_usable_context(context: Any, why: str) -> None:
    """The error for a context without a time names a context to use.

    The log's warning would not be seen.
    """
    with pytest.raises(ClockError, match=rf"^expire\(\): the handler is not watched, for {why}"):
        handler({}, context)
    with pytest.raises(ClockError, match=NAMES_IT):
        handler({}, context)


def test_error_says_how_to_watch_the_handler() -> None:
    """The error for an unwatched handler says how to watch it, by the decorator or in the test."""
    with pytest.raises(ClockError, match=r"no watched invocation is under way.*FakeContext"):
        expire()


def test_error_in_a_thread_of_an_unwatched_handler_is_the_same() -> None:
    """In a thread of an unwatched handler the error is the same.

    The thread's stack does not have the guard.
    """
    raised: list[BaseException] = []

    def work() -> None:
        try:
            expire()
        except ClockError as error:
            raised.append(error)

    @watch
    def starts(_event: object, _context: object) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    starts({}, None)

    assert "no watched invocation is under way" in str(raised[0])


@pytest.mark.parametrize("timeout", [30_000, 900.5, 0, -1.0, float("nan"), "30"])
def test_context_timeout_beyond_lambdas_maximum_is_refused(timeout: Any) -> None:
    """A context's timeout must be one that a function can have.

    Lambda's longest is 900 s, and a larger value was probably meant as milliseconds.
    """
    with pytest.raises(ValueError, match="at most 900 s: seconds, not milliseconds"):
        FakeContext(timeout)
