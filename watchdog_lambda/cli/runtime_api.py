"""A small Runtime API on loopback, from which a runtime takes events and to which it posts answers.

It manages no processes; :mod:`.builtin` does. Like Lambda's own API it refuses a second answer and
an extension that registers late. Several pollers may ask at once: the tests build on this server,
and there the workers of Managed Instances do so.

The condition ``news`` guards all state, and every change notifies it. It is held for a few stores.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

from .loopback import Connection, Server, has_hung_up

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_RUNTIME: Final = "/2018-06-01/runtime"
_EXTENSION: Final = "/2020-01-01/extension"
_ARN: Final = "arn:aws:lambda:us-east-1:012345678912:function:"
_LOOK_AGAIN: Final = 0.05  # seconds between two checks that a poller is still connected


@dataclass(frozen=True, slots=True)
class Posted:
    """The answer that the runtime has posted for an event."""

    kind: Literal["response", "error"]
    body: str
    at: float
    """``time.monotonic()``"""
    error_type: str | None
    """From the header that comes with an error, not from the body."""


class Event:
    """One event on its way through the runtime; `deadline` is in ``time.time()``'s seconds."""

    def __init__(self, request_id: str, body: bytes, deadline: float) -> None:
        self.request_id: Final = request_id
        self.body: Final = body
        self.deadline: Final = deadline
        # Guarded by the server's `news`.
        self.taken_at: float | None = None  # ``time.monotonic()``
        self.posted: Posted | None = None


class RuntimeApi:
    """The server, on its own port. Close it once. Thread: any."""

    def __init__(self, function_name: str) -> None:
        self.function_name = function_name
        self.news = threading.Condition()
        # Guarded by news.
        self.pollers = 0
        self.init_error: str | None = None
        self.has_extension = False
        self.has_polled = False
        self._waiting: deque[Event] = deque()
        self._events: dict[str, Event] = {}
        self._is_closed = False
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="runtime-api", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """The value of ``AWS_LAMBDA_RUNTIME_API`` for the runtime."""
        return self._server.address

    def close(self) -> None:
        """End every connection and the server."""
        with self.news:
            self._is_closed = True
            self.news.notify_all()
        self._server.shutdown()
        self._thread.join(5)
        self._server.hang_up()
        self._server.server_close()

    def begin_process(self) -> None:
        """Forget everything that the previous process has sent."""
        with self.news:
            self._waiting.clear()
            self._events.clear()
            self.init_error, self.has_extension, self.has_polled = None, False, False

    def hand_over(self, event: Event) -> None:
        """Queue an event for the runtime's next request."""
        with self.news:
            self._waiting.append(event)
            self._events[event.request_id] = event
            self.news.notify_all()

    # ---- the runtime's side: called by the connections' threads ------------------------------

    def take(self, connection: socket.socket) -> Event | None:
        """Wait for the next event. Return None once the poller or the server is gone."""
        with self.news:
            self.pollers += 1
            self.has_polled = True
            self.news.notify_all()
            try:
                if not self.stays(connection, lambda: bool(self._waiting)):
                    return None
                event = self._waiting.popleft()
                event.taken_at = time.monotonic()
                return event
            finally:
                self.pollers -= 1
                self.news.notify_all()

    def stays(self, connection: socket.socket, until: Callable[[], bool]) -> bool:
        """Wait until `until` is true. Return False once the other end or the server is gone."""
        with self.news:
            while not self._is_closed and not has_hung_up(connection):
                if until():
                    return True
                self.news.wait(_LOOK_AGAIN)
            return False

    def headers_of(self, event: Event) -> dict[str, str]:
        """Return the headers that Lambda sends with an event."""
        return {
            "Lambda-Runtime-Aws-Request-Id": event.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(event.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": _ARN + self.function_name,
        }

    def post(
        self, request_id: str, kind: Literal["response", "error"], body: str, error: str | None
    ) -> HTTPStatus:
        """Accept an answer, or refuse it with the status that Lambda would give."""
        with self.news:
            event = self._events.get(request_id)
            if event is None or event.taken_at is None:
                return HTTPStatus.BAD_REQUEST
            if event.posted is not None:
                return HTTPStatus.FORBIDDEN
            event.posted = Posted(kind, body, time.monotonic(), error)
            self.news.notify_all()
            return HTTPStatus.ACCEPTED

    def post_init_error(self, body: str, _error: str | None) -> HTTPStatus:
        """Accept the error of an init that failed."""
        with self.news:
            self.init_error = body
            self.news.notify_all()
            return HTTPStatus.ACCEPTED

    def register(self) -> HTTPStatus:
        """Register an internal extension."""
        with self.news:
            if self.has_polled:
                return HTTPStatus.FORBIDDEN
            self.has_extension = True
            return HTTPStatus.OK

    def restored(self, _connection: socket.socket) -> bool | None:
        """Return whether a restored runtime may continue; None where there are no snapshots."""
        return None

    def post_restore_error(self, _body: str, _error: str | None) -> HTTPStatus:
        """Accept the error of a hook that failed after the restore."""
        return HTTPStatus.NOT_FOUND


class _Server(Server):
    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__(_Connection)


class _Connection(Connection):
    """One connection. The runtime's client keeps it for all its requests."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        api, event = self.server.api, None
        if self.path == f"{_EXTENSION}/event/next":
            api.stays(self.connection, lambda: False)  # extensions get no events here
        elif self.path == f"{_RUNTIME}/invocation/next":
            event = api.take(self.connection)
        else:
            goes_on = api.restored(self.connection) if self.path.endswith("/restore/next") else None
            if goes_on is not False:
                self.reply(HTTPStatus.NOT_FOUND if goes_on is None else HTTPStatus.OK)
                return
        if event is None:
            self.close_connection = True
            return
        self.reply(HTTPStatus.OK, event.body, api.headers_of(event))

    def do_POST(self) -> None:  # noqa: N802
        api = self.server.api
        body = self.body()
        error = self.headers.get("Lambda-Runtime-Function-Error-Type")
        headers: dict[str, str] = {}
        match self.path.removeprefix(f"{_RUNTIME}/").split("/"):
            case ["init", "error"]:
                status = api.post_init_error(body, error)
            case ["restore", "error"]:
                status = api.post_restore_error(body, error)
            case ["invocation", request_id, ("response" | "error") as kind]:
                status = api.post(request_id, kind, body, error)
            case _ if self.path == f"{_EXTENSION}/register":
                status = api.register()
                headers["Lambda-Extension-Identifier"] = "00000000-0000-4000-8000-000000000000"
            case _:
                status = HTTPStatus.NOT_FOUND
        self.reply(status, headers=headers)
