"""A small Runtime API on loopback: what a runtime asks for events, and gives its answers to.

It knows nothing of processes and kills nobody; that is :mod:`.builtin`'s. What the runtime must not
do is refused as by Lambda's own: a second answer, an extension that comes late.

The condition ``news`` guards all state; who changes it notifies. It is held for a few stores.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

from .loopback import Connection, Server, has_hung_up

if TYPE_CHECKING:
    import socket

_RUNTIME: Final = "/2018-06-01/runtime"
_EXTENSION: Final = "/2020-01-01/extension"
_ARN: Final = "arn:aws:lambda:us-east-1:012345678912:function:"
_LOOK_AGAIN: Final = 0.05  # seconds between two looks whether a poller still lives


@dataclass(frozen=True, slots=True)
class Event:
    """One event on its way to the runtime."""

    request_id: str
    body: bytes
    deadline: float
    """By ``time.time()``, as Lambda tells it."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What the runtime has posted for it."""

    kind: Literal["response", "error"]
    body: str
    at: float
    """``time.monotonic()``"""


class RuntimeApi:
    """The server, on a port of its own; closed once. Thread: any."""

    def __init__(self, function_name: str) -> None:
        self.function_name = function_name
        self.news = threading.Condition()
        # Guarded by news.
        self.pollers = 0
        self.event: Event | None = None  # handed over already if it is `taken`
        self.taken = False
        self.posted: Posted | None = None
        self.init_error: str | None = None
        self.has_extension = False
        self.has_polled = False
        self._is_closed = False
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="runtime-api", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """What the runtime reads from ``AWS_LAMBDA_RUNTIME_API``."""
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
        """Forget what the process before has said."""
        with self.news:
            self.event, self.taken, self.posted = None, False, None
            self.init_error, self.has_extension, self.has_polled = None, False, False

    def hand_over(self, event: Event) -> None:
        """Give the next event to the runtime, which is asking for it or will."""
        with self.news:
            self.event, self.taken, self.posted = event, False, None
            self.news.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether the event is answered and the runtime asks for the next. With `news` held."""
        return self.posted is not None and self.pollers > 0

    # ---- the runtime's side: called by the connections' threads ------------------------------

    def take(self, connection: socket.socket) -> Event | None:
        """Wait for the next event; None once the poller or the server is gone."""
        with self.news:
            self.pollers += 1
            self.has_polled = True
            self.news.notify_all()
            try:
                while not self._is_closed and not has_hung_up(connection):
                    if self.event is not None and not self.taken:
                        self.taken = True
                        return self.event
                    self.news.wait(_LOOK_AGAIN)
            finally:
                self.pollers -= 1
                self.news.notify_all()
            return None

    def post(self, request_id: str, kind: Literal["response", "error"], body: str) -> HTTPStatus:
        """Take an answer."""
        with self.news:
            if self.event is None or self.event.request_id != request_id or not self.taken:
                return HTTPStatus.BAD_REQUEST
            if self.posted is not None:
                return HTTPStatus.FORBIDDEN
            self.posted = Posted(kind, body, time.monotonic())
            self.news.notify_all()
            return HTTPStatus.ACCEPTED

    def post_init_error(self, body: str) -> HTTPStatus:
        """Take the error of a start that failed."""
        with self.news:
            self.init_error = body
            self.news.notify_all()
            return HTTPStatus.ACCEPTED

    def register(self) -> HTTPStatus:
        """Take an internal extension."""
        with self.news:
            if self.has_polled:
                return HTTPStatus.FORBIDDEN
            self.has_extension = True
            return HTTPStatus.OK

    def wait_for_the_end(self, connection: socket.socket) -> None:
        """Until the extension or the server is gone: there are no events for it."""
        while not self._is_closed and not has_hung_up(connection):
            with self.news:
                self.news.wait(_LOOK_AGAIN)


class _Server(Server):
    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__(_Connection)


class _Connection(Connection):
    """One connection, which the runtime's client keeps for all its requests."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:  # noqa: N802 - the name is theirs
        api = self.server.api
        if self.path == f"{_EXTENSION}/event/next":
            api.wait_for_the_end(self.connection)
            self.close_connection = True
            return
        if self.path != f"{_RUNTIME}/invocation/next":
            self.reply(HTTPStatus.NOT_FOUND)
            return
        event = api.take(self.connection)
        if event is None:
            self.close_connection = True
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": event.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(event.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": _ARN + api.function_name,
        }
        self.reply(HTTPStatus.OK, event.body, headers)

    def do_POST(self) -> None:  # noqa: N802
        api = self.server.api
        body = self.body()
        headers: dict[str, str] = {}
        match self.path.removeprefix(f"{_RUNTIME}/").split("/"):
            case ["init", "error"]:
                status = api.post_init_error(body)
            case ["invocation", request_id, "response"]:
                status = api.post(request_id, "response", body)
            case ["invocation", request_id, "error"]:
                status = api.post(request_id, "error", body)
            case _ if self.path == f"{_EXTENSION}/register":
                status = api.register()
                headers["Lambda-Extension-Identifier"] = "00000000-0000-4000-8000-000000000000"
            case _:
                status = HTTPStatus.NOT_FOUND
        self.reply(status, headers=headers)
