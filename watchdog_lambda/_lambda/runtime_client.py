"""Makes awslambdaric's client store in the shared page what it is about to do.

The stores are around the client's calls, not around the handler, so that they include reading the
event, and making and sending the answer. Methods of the base class are replaced, because the only
instance has been created before the entrypoint is imported.

This adds some stores to memory to an invocation, and no system call.
"""

from __future__ import annotations

from watchdog_lambda._engine.clock import wall

from .plain_http import Event
from .shared_state import (
    ANSWERING,
    ASIDE,
    FAILED,
    IDLE,
    INVOCATION,
    INVOCATION_AT,
    OPEN,
    STATE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any, Final

    from .shared_state import SharedState

_DURABLE: Final = b'"DurableExecutionArn"'
_DURABLE_TOO: Final = b'"CheckpointToken"'
_RARE: Final = _DURABLE[1]
"""A byte of the first name. It is rare in most events; a search for the whole name is slow."""
_PARAMETERS: Final = ("invoke_id", "result_data", "content_type", "invocation_id")


def _is_durable(body: bytes) -> bool:
    """Return whether an event is a durable function's, without decoding it.

    An error is final for it, while after a timeout or the process's end Lambda continues from the
    last checkpoint.
    """
    at = 0
    while (at := body.find(_RARE, at + 1)) >= 0:
        if body.startswith(_DURABLE, at - 1):
            return _DURABLE_TOO in body
    return False


class WatchedClient:
    """Wraps the client's methods.

    Thread: main, in the runtime's process, while the entrypoint is imported.
    """

    def __init__(
        self,
        state: SharedState,
        *,
        first: socket | None,
        ring: Callable[[], None],
    ) -> None:
        """Prepare the wrappers.

        Args:
            state: the page that the supervisor reads.
            first: the connection on which the supervisor has requested the first event; None if
                the runtime requests it itself.
            ring: makes the supervisor look.
        """
        from awslambdaric import lambda_runtime_client  # noqa: PLC0415 - the runtime's own

        self._module: Any = lambda_runtime_client
        self._state = state
        self._first = first
        self._ring = ring

    def install(self) -> None:
        """Replace the client's methods."""
        base: Any = self._module.BaseLambdaRuntimeClient
        state = self._state
        memory, store, now = state.memory, INVOCATION.pack_into, wall
        next_, result, error = (
            base.wait_next_invocation,
            base.post_invocation_result,
            base.post_invocation_error,
        )
        init_error = base.post_init_error

        def wait_next_invocation(client: Any) -> Any:
            memory[STATE] = IDLE
            request = next_(client)
            body = request.event_body
            try:
                if _RARE in body and _is_durable(body):
                    memory[STATE] = ASIDE
                    return request
                text = request.invoke_id
                if request.invocation_id:
                    text = f"{text} {request.invocation_id}"
                deadline = request.deadline_time_in_ms
                store(memory, INVOCATION_AT, now(), deadline, text.encode())
            except Exception:  # noqa: BLE001 - a malformed event is left to the runtime
                memory[STATE] = ASIDE
                return request
            memory[STATE] = OPEN  # after the text; see shared_state
            return request

        def first_invocation(client: Any) -> Any:
            base.wait_next_invocation = wait_next_invocation
            request = self._take_first(lambda: wait_next_invocation(client))
            state.served()
            # This happens once per process, and is the only system call: the supervisor learns how
            # long an invocation may take, and therefore how long it may sleep.
            self._ring()
            return request

        def post_invocation_result(
            client: Any,
            invoke_id: Any,
            result_data: Any,
            content_type: Any = "application/json",
            invocation_id: Any = None,
        ) -> Any:
            memory[STATE] = ANSWERING
            return result(client, invoke_id, result_data, content_type, invocation_id)

        def post_any_result(client: Any, *arguments: Any, **options: Any) -> Any:
            memory[STATE] = ANSWERING
            return result(client, *arguments, **options)

        def post_invocation_error(client: Any, *arguments: Any, **options: Any) -> Any:
            memory[STATE] = ANSWERING
            return error(client, *arguments, **options)

        def post_init_error(client: Any, *arguments: Any, **options: Any) -> Any:
            memory[STATE] = FAILED
            return init_error(client, *arguments, **options)

        # Before 4.2 awslambdaric does not have this attribute.
        self._module.InvocationRequest.invocation_id = None
        base.wait_next_invocation = first_invocation
        # Call the method of 4.2 and newer with its own parameters: ``*arguments`` would add half of
        # the cost of everything else.
        code = getattr(result, "__code__", None)
        is_usual = getattr(code, "co_varnames", ())[1:5] == _PARAMETERS
        base.post_invocation_result = post_invocation_result if is_usual else post_any_result
        base.post_invocation_error = post_invocation_error
        base.post_init_error = post_init_error

    def _take_first(self, wait: Callable[[], Any]) -> Any:
        """Take the first event, from the supervisor's connection if there is one."""
        if self._first is None:
            return wait()
        native = self._module.runtime_client
        # Replace the module's client instead of returning a result, so that everything that the
        # runtime does around its call, such as waiting on another thread, is done as usual.
        self._module.runtime_client = _FirstEvent(self._first)
        try:
            return wait()
        finally:
            self._module.runtime_client = native
            self._first.close()
            self._first = None


class _FirstEvent:
    """Stands in for the native client for one call of ``next()``."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection

    def next(self) -> tuple[bytes, dict[str, Any]]:
        """Return the event's body and headers, like the native client."""
        self._connection.settimeout(None)
        event = Event(self._connection)
        body = event.read()
        if event.status != 200:
            raise RuntimeError(f"GET /next: {event.status}")
        headers: dict[str, Any] = dict(event.headers)
        deadline = "Lambda-Runtime-Deadline-Ms"
        if deadline in headers:
            headers[deadline] = int(headers[deadline])
        return body, headers
