"""Tests of other vendors' wrappers that treat our interrupt as an exception of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Context, block
from watchdog_lambda import LambdaTimeout, watch

if TYPE_CHECKING:
    from collections.abc import Callable

# datadog_lambda's wrapper does this: it looks for one exception of its own, and drops all others
# that are no Exception.
SOURCE = """
def around(function, answer):
    def wrapper(event, context):
        response = answer
        try:
            response = function(event, context)
        except Exception:
            raise
        except BaseException as error:
            if "BlockingException" in type(error).__name__:
                response = "blocked"
        return response
    return wrapper
"""


@pytest.fixture
def around() -> Callable[..., Callable[[object, object], object]]:
    """Return the vendor's wrapper, compiled for a file in a layer."""
    namespace: dict[str, Any] = {}
    exec(compile(SOURCE, "/opt/python/vendor/wrapper.py", "exec"), namespace)  # noqa: S102
    wrapper: Callable[..., Callable[[object, object], object]] = namespace["around"]
    return wrapper


def stuck(_event: object, _context: object) -> None:
    """The user's handler, which is stuck."""
    block()


def test_interrupt_dropped_by_a_wrapper_is_a_timeout(
    around: Callable[..., Callable[[object, object], object]],
) -> None:
    """An interrupt that a wrapper drops is a timeout.

    The caller would take the wrapper's None for a success.
    """
    handler = watch(grace_period=0.1, interrupt="base")(around(stuck, None))

    with pytest.raises(LambdaTimeout, match=r"limit, in .*\(block\)"):
        handler({}, Context(0.4))


def test_fallback_answers_if_a_wrapper_drops_the_interrupt(
    around: Callable[..., Callable[[object, object], object]],
) -> None:
    """The fallback answers if a wrapper drops the interrupt, as for any other timeout."""
    handler = watch(grace_period=0.1, interrupt="base", fallback={"statusCode": 504})(
        around(stuck, None)
    )

    assert handler({}, Context(0.4)) == {"statusCode": 504}


def test_answer_of_a_wrapper_is_the_response(
    around: Callable[..., Callable[[object, object], object]],
) -> None:
    """The answer that a framework makes of the interrupt is the response."""
    handler = watch(grace_period=0.1, interrupt="base")(around(stuck, "error 500"))

    assert handler({}, Context(0.4)) == "error 500"


def test_handler_may_return_none_after_a_library_dropped_the_interrupt(
    around: Callable[..., Callable[[object, object], object]],
) -> None:
    """A handler that returns None after a library has dropped the interrupt has answered.

    The user's own code has gone on.
    """
    library = around(stuck, None)
    ended = []

    @watch(grace_period=0.1, interrupt="base")
    def handler(event: object, context: object) -> None:
        library(event, context)
        ended.append(True)

    assert handler({}, Context(0.4)) is None
    assert ended
