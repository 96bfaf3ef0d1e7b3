"""Lambda's Runtime API as Managed Instances have it: several pollers, and nobody kills.

    with RuntimeApi(timeout=2.0) as api:
        ...  # start a runtime with AWS_LAMBDA_RUNTIME_API=api.address
        api.wait_for_pollers(2)
        first, second = api.send({"do": "sleep"}), api.send({"do": "sleep"})
        print(first.answer(within=5.0).body, second.answer(within=5.0).seconds)

It tells a deadline and does nothing about it, as Lambda does there. What the runtime must not do is
refused as by Lambda's own: a second answer to one invocation and a second error at init get 403.

For SnapStart a runtime asks for the restore before its first event, which is what the snapshot is
taken in; it waits until ``api.restore()``:

    api.wait_for_snapshot()
    ...  # stop the process for a while
    api.restore()
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from watchdog_lambda.cli.loopback import Connection, Server, has_hung_up

if TYPE_CHECKING:
    import socket
    from types import TracebackType

__all__ = ["Answer", "InitError", "Invocation", "NoAnswer", "RuntimeApi"]

_VERSION: Final = "/2018-06-01/runtime"
_ARN: Final = "arn:aws:lambda:eu-central-1:000000000000:function:function"
_LOOK_AGAIN: Final = 0.05  # seconds between two looks whether a poller still lives


class NoAnswer(Exception):
    """The runtime did not do in time what was waited for; the message says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the runtime posted for one invocation."""

    kind: Literal["response", "error"]
    text: str
    seconds: float
    """From the instant at which a worker took the event."""
    error_type: str | None
    """Of the header that goes with an error; not of the body."""

    @property
    def body(self) -> Any:
        """The text, decoded."""
        return json.loads(self.text)

    @property
    def worker(self) -> int:
        """The process that the handler says it runs in: ``pid`` in the body."""
        return int(self.body["pid"])


@dataclass(frozen=True, slots=True)
class InitError:
    """What the runtime posted for its init."""

    body: Any
    error_type: str | None
    is_first: bool
    """Whether it was accepted; Lambda takes one and refuses those of the other workers."""


class Invocation:
    """One event on its way through the runtime."""

    def __init__(self, number: int, event: object, news: threading.Condition) -> None:
        self.request_id: Final = f"00000000-0000-4000-8000-{number:012d}"
        self.event: Final = json.dumps(event).encode()
        self._news = news
        # Guarded by _news.
        self.taken_at: float | None = None
        self.posted: Answer | None = None

    @property
    def is_taken(self) -> bool:
        """Whether a worker has it, or has answered it."""
        with self._news:
            return self.taken_at is not None

    def answer(self, *, within: float) -> Answer:
        """Wait for the answer.

        Raises:
            NoAnswer: None within so many seconds from now.
        """
        with self._news:
            if not self._news.wait_for(lambda: self.posted, within) or self.posted is None:
                state = "nobody has taken it" if self.taken_at is None else "a worker has it"
                raise NoAnswer(f"no answer to {self.event.decode()} in {within} s: {state}")
            return self.posted


class RuntimeApi:
    """The server, on a port of its own on loopback.

    Args:
        timeout: The function's timeout in seconds.
        told: What the deadline header says instead, in seconds from when the event is taken.

    Thread: any.
    """

    def __init__(self, *, timeout: float, told: float | None = None) -> None:
        self.timeout = timeout
        self._told = timeout if told is None else told
        self._news = threading.Condition()
        # Guarded by _news.
        self._count = 0
        self._waiting: deque[Invocation] = deque()
        self._invocations: dict[str, Invocation] = {}
        self._pollers = 0
        self._init_errors: list[InitError] = []
        self._restore_errors: list[InitError] = []
        self._snapshots = 0
        self._is_restored = False
        self._is_closed = False
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="runtime-api", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        self._server.shutdown()
        self._thread.join(5)
        self._server.hang_up()
        self._server.server_close()  # joins the connections' threads, which have ended by now

    # ---- the caller's side -------------------------------------------------------------------

    @property
    def address(self) -> str:
        """What the runtime reads from ``AWS_LAMBDA_RUNTIME_API``."""
        return self._server.address

    @property
    def pollers(self) -> int:
        """How many workers wait for an event now."""
        with self._news:
            return self._pollers

    @property
    def init_errors(self) -> list[InitError]:
        """What was posted for the init so far; a copy."""
        with self._news:
            return list(self._init_errors)

    @property
    def restore_errors(self) -> list[InitError]:
        """What was posted for hooks that failed after the restore; a copy."""
        with self._news:
            return list(self._restore_errors)

    def wait_for_snapshot(self, *, within: float = 15.0) -> None:
        """Wait until the runtime has asked for the restore: Lambda takes the snapshot then.

        Raises:
            NoAnswer: It has not within so many seconds.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._snapshots, within):
                raise NoAnswer(f"nobody has asked for a restore in {within} s")

    def restore(self) -> None:
        """Let the runtime go on, as from the snapshot."""
        with self._news:
            self._is_restored = True
            self._news.notify_all()

    def send(self, event: object) -> Invocation:
        """Hand an event to whichever worker takes it, and do not wait for that."""
        with self._news:
            self._count += 1
            invocation = Invocation(self._count, event, self._news)
            self._waiting.append(invocation)
            self._invocations[invocation.request_id] = invocation
            self._news.notify_all()
        return invocation

    def invoke(self, event: object, *, within: float = 10.0) -> Answer:
        """Send an event and wait for its answer.

        Raises:
            NoAnswer: None within so many seconds.
        """
        return self.send(event).answer(within=within)

    def wait_for_pollers(self, count: int, *, within: float = 15.0) -> None:
        """Wait until so many workers ask for an event at once.

        Raises:
            NoAnswer: Fewer within so many seconds.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._pollers >= count, within):
                raise NoAnswer(f"{self._pollers} workers of {count} ask for an event")

    # ---- the runtime's side: called by the connections' threads ------------------------------

    def take(self, connection: socket.socket) -> Invocation | None:
        """Wait for the next event; None once the poller or the server is gone."""
        with self._news:
            self._pollers += 1
            self._news.notify_all()
            try:
                while not self._is_closed and not has_hung_up(connection):
                    if self._waiting:
                        invocation = self._waiting.popleft()
                        invocation.taken_at = time.monotonic()
                        return invocation
                    self._news.wait(_LOOK_AGAIN)
            finally:
                self._pollers -= 1
            return None

    def await_restore(self, connection: socket.socket) -> bool:
        """Wait for the restore; False once the runtime or the server is gone."""
        with self._news:
            self._snapshots += 1
            self._news.notify_all()
            while not self._is_closed and not has_hung_up(connection):
                if self._is_restored:
                    return True
                self._news.wait(_LOOK_AGAIN)
            return False

    def post_restore_error(self, text: str, error: str | None) -> HTTPStatus:
        """Take the error of a hook that failed after the restore."""
        with self._news:
            self._restore_errors.append(InitError(json.loads(text), error, is_first=True))
            self._news.notify_all()
            return HTTPStatus.ACCEPTED

    def deadline_ms(self) -> int:
        """The hard deadline of an event that is taken now, as the header has it."""
        return int((time.time() + self._told) * 1000)

    def post(
        self, request_id: str, kind: Literal["response", "error"], text: str, error: str | None
    ) -> HTTPStatus:
        """Take a worker's answer."""
        with self._news:
            invocation = self._invocations.get(request_id)
            if invocation is None or invocation.taken_at is None:
                return HTTPStatus.BAD_REQUEST
            if invocation.posted is not None:
                return HTTPStatus.FORBIDDEN
            seconds = time.monotonic() - invocation.taken_at
            invocation.posted = Answer(kind, text, seconds, error)
            self._news.notify_all()
            return HTTPStatus.ACCEPTED

    def post_init_error(self, text: str, error: str | None) -> HTTPStatus:
        """Take a worker's error at init."""
        with self._news:
            is_first = not self._init_errors
            self._init_errors.append(InitError(json.loads(text), error, is_first))
            self._news.notify_all()
            return HTTPStatus.ACCEPTED if is_first else HTTPStatus.FORBIDDEN


class _Server(Server):
    daemon_threads = False  # so that server_close() joins them

    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__(_Connection)


class _Connection(Connection):
    """One worker's connection, which libcurl keeps for all its requests."""

    server: _Server
    timeout = 60  # seconds: an upper bound for a worker that sends nothing

    def do_GET(self) -> None:  # noqa: N802 - the name is theirs
        if self.path == f"{_VERSION}/restore/next":
            if self.server.api.await_restore(self.connection):
                self.reply(HTTPStatus.OK)
            else:
                self.close_connection = True
            return
        if self.path != f"{_VERSION}/invocation/next":
            self.reply(HTTPStatus.NOT_FOUND)
            return
        invocation = self.server.api.take(self.connection)
        if invocation is None:
            self.close_connection = True
            return
        self.reply(
            HTTPStatus.OK,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(self.server.api.deadline_ms()),
                "Lambda-Runtime-Invoked-Function-Arn": _ARN,
                "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
                # Sent in this mode by Lambda, and expected back with the answer.
                "Lambda-Runtime-Invocation-Id": invocation.request_id[::-1],
            },
        )

    def do_POST(self) -> None:  # noqa: N802
        text = self.body()
        error = self.headers.get("Lambda-Runtime-Function-Error-Type")
        match self.path.removeprefix(f"{_VERSION}/").split("/"):
            case ["init", "error"]:
                status = self.server.api.post_init_error(text, error)
            case ["restore", "error"]:
                status = self.server.api.post_restore_error(text, error)
            case ["invocation", request_id, "response"]:
                status = self.server.api.post(request_id, "response", text, error)
            case ["invocation", request_id, "error"]:
                status = self.server.api.post(request_id, "error", text, error)
            case _:
                status = HTTPStatus.NOT_FOUND
        self.reply(status)
