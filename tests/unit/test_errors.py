"""What lands and what leaves, as exceptions."""

from __future__ import annotations

import pickle
from _thread import get_ident

import pytest

from watchdog_lambda import Interrupt, LambdaTimeout, TimeoutDetails
from watchdog_lambda.errors import LoopInterrupt, prepared

DETAILS = TimeoutDetails(
    request_id="r", function_name="f", deadline=10.0, elapsed=7.0, grace_period=3.0, location="a:1"
)


def test_kinds_are_what_code_in_the_field_catches() -> None:
    """The first is a TimeoutError; the second passes ``except Exception``.

    Loops let the third by.
    """
    assert issubclass(LambdaTimeout, TimeoutError)
    assert not issubclass(Interrupt, Exception)
    assert issubclass(LoopInterrupt, KeyboardInterrupt)
    assert LambdaTimeout.__name__ == "LambdaTimeout"
    assert (LambdaTimeout.__module__, Interrupt.__module__) == ("watchdog_lambda",) * 2


def test_prepared_instance_is_what_a_call_without_arguments_gives() -> None:
    """PyThreadState_SetAsyncExc calls a class; the instance with the message comes of it, once."""
    instance = LambdaTimeout("the message")
    prepared[get_ident()] = instance

    assert LambdaTimeout("somebody's own").args == ("somebody's own",)
    assert LambdaTimeout() is instance
    assert instance.args == ("the message",)
    assert LambdaTimeout() is not instance
    assert not prepared


def test_prepared_instance_of_another_class_is_left_alone() -> None:
    """User code that makes a LambdaTimeout while an Interrupt is on its way does not steal it."""
    prepared[get_ident()] = Interrupt("on its way")
    try:
        assert LambdaTimeout().args == ()
        assert get_ident() in prepared
    finally:
        prepared.clear()


def test_timeout_survives_pickling_with_its_details() -> None:
    """multiprocessing and concurrent.futures carry it between processes."""
    timeout = LambdaTimeout("interrupted")
    timeout.details = DETAILS

    copy = pickle.loads(pickle.dumps(timeout))  # noqa: S301 - our own

    assert str(copy) == "interrupted"
    assert copy.details.location == "a:1"


def test_details_are_frozen_and_readable() -> None:
    """Several hooks get the same details at once."""
    with pytest.raises(AttributeError, match="frozen"):
        DETAILS.location = "b:2"
    with pytest.raises(AttributeError, match="frozen"):
        del DETAILS.location
    assert "request_id='r'" in repr(DETAILS)
    assert DETAILS.remaining() < 10.0
