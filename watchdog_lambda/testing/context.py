"""A Lambda context for tests, whose time a test can move."""

from __future__ import annotations

import sys

from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.current import under_way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_advanced = [0.0]
"""Seconds by which time has been moved outside any watched invocation."""

_LONGEST = 900.0  # as in Lambda


class FakeContext:
    """A Lambda context for tests, with every attribute of the real one.

    Its time starts anew with every watched invocation that it is passed to. For a handler that is
    not watched, it starts when the context is made. Both real time and :meth:`Clock.advance` count.
    :func:`~watchdog_lambda.remaining_time` and :meth:`get_remaining_time_in_millis` always agree.

    Args:
        timeout: the function's timeout in seconds: more than 0 and at most 900, as in Lambda.
        function_name: the value of the attribute; so are the arguments below.
        function_version: as in Lambda.
        aws_request_id: the same in every context, unless you pass one.
        memory_limit_in_mb: a string, as in the real context.
        invoked_function_arn: derived from the name by default.
        log_group_name: derived from the name by default.
        log_stream_name: as in Lambda.
        identity: the Amazon Cognito identity; by default one whose two ids are None.
        client_context: the mobile SDK's.
        tenant_id: for a function with tenant isolation.

    Raises:
        ValueError: a timeout that no function can have.

    Thread: any.
    """

    def __init__(
        self,
        timeout: float = 30.0,
        *,
        function_name: str = "test-function",
        function_version: str = "$LATEST",
        aws_request_id: str = "11111111-2222-4333-8444-555555555555",
        memory_limit_in_mb: str | int = "128",
        invoked_function_arn: str | None = None,
        log_group_name: str | None = None,
        log_stream_name: str = "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
        identity: Any = None,
        client_context: Any = None,
        tenant_id: str | None = None,
    ) -> None:
        if not (isinstance(timeout, int | float) and 0 < timeout <= _LONGEST):
            raise ValueError(
                f"FakeContext(timeout={timeout!r}): not a function's timeout, which is more than 0 "
                f"and at most {_LONGEST:g} s: seconds, not milliseconds? use for example 30.0"
            )
        self.timeout = timeout
        self.function_name = function_name
        self.function_version = function_version
        self.aws_request_id = aws_request_id
        self.memory_limit_in_mb = memory_limit_in_mb
        self.invoked_function_arn = invoked_function_arn or (
            f"arn:aws:lambda:us-east-1:123456789012:function:{function_name}"
        )
        self.log_group_name = log_group_name or f"/aws/lambda/{function_name}"
        self.log_stream_name = log_stream_name
        self.identity = FakeIdentity() if identity is None else identity
        self.client_context = client_context
        self.tenant_id = tenant_id
        self._hard = 0.0
        self._advanced = 0.0
        self._begin()

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds to the hard deadline, never below 0."""
        if is_ours(sys._getframe(1).f_code):
            self._begin()  # our guard asks, so a watched invocation begins
            return max(1, round(self.timeout * 1000))
        for _, invocation in under_way():
            if invocation.context is self:
                self._hard, self._advanced = invocation.hard, _advanced[0]
        left = self._hard - SystemClock.monotonic() - (_advanced[0] - self._advanced)
        return max(0, int(left * 1000))

    def log(self, message: object) -> None:
        """Write to standard output, as the real context does outside the runtime."""
        sys.stdout.write(str(message))

    def w3c(self) -> dict[str, str]:
        """Return the W3C trace context of the invocation, which is empty."""
        return {}

    def __repr__(self) -> str:
        return (
            f"FakeContext(timeout={self.timeout!r}, function_name={self.function_name!r}, "
            f"aws_request_id={self.aws_request_id!r})"
        )

    def _begin(self) -> None:
        self._hard = SystemClock.monotonic() + self.timeout
        self._advanced = _advanced[0]

    def _watchdog_move_back(self, seconds: float) -> None:
        """Follow the context's invocation, whose time is moved. Thread: watchdog."""
        self._hard -= seconds


class FakeIdentity:
    """The identity object of an invocation without a Cognito identity."""

    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None


def advance_unwatched(seconds: float) -> None:
    """Move the time of all contexts outside watched invocations. Thread: any."""
    _advanced[0] += seconds
