"""awslambdaric's client, made to say in the shared page what it is about to do.

The stores stand around the client's calls and not around the handler: so they cover reading the
event, making the answer and sending it, too. Methods of the base class are replaced, as the one
object that there is has been made before the entrypoint is imported.

What this adds to an invocation is some stores to memory, and no system call.
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
"""A byte of the first. Few events have many of it, and a search for the whole name is slow."""
_PARAMETERS: Final = ("invoke_id", "result_data", "content_type", "invocation_id")


def _is_durable(body: bytes) -> bool:
    """Whether an event is that of a durable function, told without decoding it.

    An error is final there, while Lambda goes on from the last checkpoint after a timeout or the
    process's end.
    """
    at = 0
    while (at := body.find(_RARE, at + 1)) >= 0:
        if body.startswith(_DURABLE, at - 1):
            return _DURABLE_TOO in body
    return False


class WatchedClient:
    """The client's methods, and what stands around them.

    Thread: main, in the runtime's process, while the entrypoint is imported.
    """

    def __init__(
        self,
        state: SharedState,
        *,
        first: socket | None,
        ring: Callable[[], None],
    ) -> None:
        """Take note of what the process is told.

        Args:
            state: the page that the supervisor reads.
            first: the connection that the first event comes on, asked for by the supervisor;
                None for the runtime's own.
            ring: has the supervisor look.
        """
        from awslambdaric import lambda_runtime_client  # noqa: PLC0415 - the runtime's own

        self._module: Any = lambda_runtime_client
        self._state = state
        self._first = first
        self._ring = ring

    def install(self) -> None:
        """Put the stores around the client's calls."""
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
            except Exception:  # noqa: BLE001 - no such event as Lambda gives: the runtime's business
                memory[STATE] = ASIDE
                return request
            memory[STATE] = OPEN  # after the text; see shared_state
            return request

        def first_invocation(client: Any) -> Any:
            base.wait_next_invocation = wait_next_invocation
            request = self._take_first(lambda: wait_next_invocation(client))
            state.served()
            # Once in the process's life, and the only system call: the supervisor learns how long
            # an invocation may take, and so how long it may sleep.
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

        # awslambdaric gives it from 4.2 on.
        self._module.InvocationRequest.invocation_id = None
        base.wait_next_invocation = first_invocation
        # awslambdaric's own from 4.2 on is called as it is: stars would cost half as much as all of
        # the rest.
        code = getattr(result, "__code__", None)
        is_usual = getattr(code, "co_varnames", ())[1:5] == _PARAMETERS
        base.post_invocation_result = post_invocation_result if is_usual else post_any_result
        base.post_invocation_error = post_invocation_error
        base.post_init_error = post_init_error

    def _take_first(self, wait: Callable[[], Any]) -> Any:
        """The first event, from the supervisor's connection where there is one."""
        if self._first is None:
            return wait()
        native = self._module.runtime_client
        # The client of the module, not a result of our own: what the runtime does around its call,
        # such as waiting on another thread, is done as ever.
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
        """The event's body and headers, as the native client returns them."""
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
