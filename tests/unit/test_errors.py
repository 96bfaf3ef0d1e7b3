"""What lands and what leaves, as exceptions."""

from __future__ import annotations

import pickle
from _thread import get_ident

import pytest

from watchdog_lambda import Interrupt, LambdaTimeout, TimeoutDetails
from watchdog_lambda.errors import LANDING, LoopInterrupt, prepared

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


@pytest.mark.parametrize("kind", [LambdaTimeout, Interrupt, LoopInterrupt])
def test_what_is_injected_gives_the_prepared_instance(kind: type[LambdaTimeout]) -> None:
    """PyThreadState_SetAsyncExc calls a class; the instance with the message comes of it, once."""
    instance = kind("the message")
    prepared[get_ident()] = instance

    assert kind() is not instance, "user code that makes one of its own does not get it"
    assert LANDING[kind]() is instance
    assert type(instance) is kind
    assert instance.args == ("the message",)
    assert not prepared
    assert type(LANDING[kind]()) is kind, "withdrawn in that very moment"
    assert issubclass(LANDING[kind], kind), "C code looks at the class"


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
