"""Tests of the exceptions that land in the handler, and of those that leave it."""

from __future__ import annotations

import copy
import pickle
from _thread import get_ident
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from tests.support import Context, block
from watchdog_lambda import Interrupt, LambdaTimeout, TimeoutDetails, watch
from watchdog_lambda.errors import LANDING, LoopInterrupt, prepared

DETAILS = TimeoutDetails(
    request_id="r", function_name="f", deadline=10.0, elapsed=7.0, grace_period=3.0, location="a:1"
)


def test_interrupt_kinds_have_expected_base_classes() -> None:
    """The first kind is a TimeoutError, and the second one passes ``except Exception``.

    The third one is a KeyboardInterrupt, because event loops pass that on.
    """
    assert issubclass(LambdaTimeout, TimeoutError)
    assert not issubclass(Interrupt, Exception)
    assert issubclass(LoopInterrupt, KeyboardInterrupt)
    assert LambdaTimeout.__name__ == "LambdaTimeout"
    assert (LambdaTimeout.__module__, Interrupt.__module__) == ("watchdog_lambda",) * 2


@pytest.mark.parametrize("kind", [LambdaTimeout, Interrupt, LoopInterrupt])
def test_injected_class_gives_the_prepared_instance(kind: type[LambdaTimeout]) -> None:
    """PyThreadState_SetAsyncExc calls a class.

    The call returns the prepared instance with its message, once.
    """
    instance = kind("the message")
    prepared[get_ident()] = instance

    assert kind() is not instance, "user code got the prepared instance"
    assert LANDING[kind]() is instance
    assert type(instance) is kind
    assert instance.args == ("the message",)
    assert not prepared
    assert type(LANDING[kind]()) is kind, "a withdrawn instance was returned"
    assert issubclass(LANDING[kind], kind), "C code checks the class"


def test_timeout_survives_pickling_with_its_details() -> None:
    """A LambdaTimeout can be pickled with its details, as process pools do."""
    timeout = LambdaTimeout("interrupted")
    timeout.details = DETAILS

    twin = pickle.loads(pickle.dumps(timeout))  # noqa: S301 - our own

    assert str(twin) == "interrupted"
    assert twin.details.location == "a:1"


@pytest.mark.parametrize("interrupt", ["timeout-error", "base"])
def test_landed_interrupt_can_be_copied_and_pickled(interrupt: Any) -> None:
    """An interrupt that has landed can be copied and pickled, as error reporters and pools do.

    The copy leaves out what the watchdog keeps with it.
    """
    caught: list[LambdaTimeout | Interrupt] = []

    @watch(interrupt=interrupt)
    def handler(_event: object, _context: object) -> None:
        try:
            block()
        except (LambdaTimeout, Interrupt) as error:
            caught.append(error)

    handler({}, Context(0.1))

    [error] = caught
    for other in (
        copy.copy(error),
        copy.deepcopy(error),
        pickle.loads(pickle.dumps(error)),  # noqa: S301 - our own
    ):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.details == error.details


def test_details_are_compared_by_value() -> None:
    """Details are compared by value, so that a test of a hook can compare them as a whole."""
    twin = copy.deepcopy(DETAILS)

    assert twin == DETAILS
    assert {twin, DETAILS} == {DETAILS}
    other = TimeoutDetails(request_id="s", deadline=10.0, elapsed=7.0, grace_period=3.0)
    assert other != DETAILS
    assert DETAILS != "details"


def test_details_are_frozen_and_readable() -> None:
    """Details are immutable, because hooks run at the same time, and have a readable repr."""
    with pytest.raises(FrozenInstanceError, match="frozen"):
        DETAILS.location = "b:2"
    with pytest.raises(AttributeError, match="frozen"):
        del DETAILS.location
    assert "request_id='r'" in repr(DETAILS)
    assert DETAILS.remaining() < 10.0
