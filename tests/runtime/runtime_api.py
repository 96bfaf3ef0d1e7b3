"""Simulates the Runtime API of Managed Instances: several pollers, and no kill at the deadline.

    with RuntimeApi(timeout=2.0) as api:
        ...  # start a runtime with AWS_LAMBDA_RUNTIME_API=api.address
        api.wait_for_pollers(2)
        first, second = api.send({"do": "sleep"}), api.send({"do": "sleep"})
        print(first.answer(within=5.0).body, second.answer(within=5.0).seconds)

It sets a deadline and does not enforce it, as Lambda does there. It refuses what Lambda's own API
refuses: a second answer to one invocation and a second error at init get 403.

With SnapStart a runtime asks for the restore before its first event, and the snapshot is taken
during this request; it waits until ``api.restore()``:

    api.wait_for_snapshot()
    ...  # stop the process for a while
    api.restore()
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Self

from watchdog_lambda.cli import runtime_api

if TYPE_CHECKING:
    import socket
    import threading

__all__ = ["Answer", "InitError", "Invocation", "NoAnswer", "RuntimeApi"]


class NoAnswer(Exception):
    """The runtime has not done in time what was awaited; the message says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer that the runtime posted for one invocation."""

    kind: Literal["response", "error"]
    text: str
    seconds: float
    """From the instant at which a worker took the event."""
    error_type: str | None
    """Of the header that goes with an error; not of the body."""

    @property
    def body(self) -> Any:
        """The body as text."""
        return json.loads(self.text)

    @property
    def worker(self) -> int:
        """The pid that the handler has returned in the body: the worker's."""
        return int(self.body["pid"])


@dataclass(frozen=True, slots=True)
class InitError:
    """The error that the runtime posted for its init."""

    body: Any
    error_type: str | None
    is_first: bool
    """Whether it was accepted; Lambda takes one and refuses those of the other workers."""


class Invocation(runtime_api.Event):
    """One event, from the moment it is sent to its answer."""

    def __init__(self, number: int, event: object, news: threading.Condition) -> None:
        body = json.dumps(event).encode()
        super().__init__(f"00000000-0000-4000-8000-{number:012d}", body, 0.0)
        self._news = news

    @property
    def is_taken(self) -> bool:
        """Whether a worker has taken the event, or has answered it."""
        with self._news:
            return self.taken_at is not None

    def answer(self, *, within: float) -> Answer:
        """Wait for the answer.

        Raises:
            NoAnswer: There is none within so many seconds from now.
        """
        with self._news:
            self._news.wait_for(lambda: self.posted, within)
            posted, taken_at = self.posted, self.taken_at
        if posted is None or taken_at is None:
            state = "no worker has taken it" if taken_at is None else "a worker has it"
            raise NoAnswer(f"no answer to {self.body.decode()} in {within} s: {state}")
        return Answer(posted.kind, posted.body, posted.at - taken_at, posted.error_type)


class RuntimeApi(runtime_api.RuntimeApi):
    """The command's own Runtime API, with several pollers and the restore of a snapshot.

    Args:
        timeout: The function's timeout in seconds.
        told: The time in the deadline header, if it differs, in seconds after the event is taken.

    Thread: any.
    """

    def __init__(self, *, timeout: float, told: float | None = None) -> None:
        self.timeout = timeout
        self._told = timeout if told is None else told
        self._count = 0  # guarded by news, like the fields below
        self._init_errors: list[InitError] = []
        self._restore_errors: list[InitError] = []
        self._snapshots = 0
        self._is_restored = False
        super().__init__("function")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # ---- the caller's side -------------------------------------------------------------------

    @property
    def init_errors(self) -> list[InitError]:
        """A copy of the errors that have been posted for the init so far."""
        with self.news:
            return list(self._init_errors)

    @property
    def restore_errors(self) -> list[InitError]:
        """A copy of the errors that have been posted for failed after-restore hooks so far."""
        with self.news:
            return list(self._restore_errors)

    def wait_for_snapshot(self, *, within: float = 15.0) -> None:
        """Wait until the runtime has asked for the restore.

        Lambda takes the snapshot at that moment.

        Raises:
            NoAnswer: It has not asked within so many seconds.
        """
        with self.news:
            if not self.news.wait_for(lambda: self._snapshots, within):
                raise NoAnswer(f"no restore was requested within {within} s")

    def restore(self) -> None:
        """Answer the request for the restore, as Lambda does when it starts from the snapshot."""
        with self.news:
            self._is_restored = True
            self.news.notify_all()

    def send(self, event: object) -> Invocation:
        """Send an event to the next free worker, without waiting until it is taken."""
        with self.news:
            self._count += 1
            invocation = Invocation(self._count, event, self.news)
            self.hand_over(invocation)
        return invocation

    def invoke(self, event: object, *, within: float = 10.0) -> Answer:
        """Send an event and wait for its answer.

        Raises:
            NoAnswer: There is none within so many seconds.
        """
        return self.send(event).answer(within=within)

    def wait_for_pollers(self, count: int, *, within: float = 15.0) -> None:
        """Wait until so many workers ask for an event at once.

        Raises:
            NoAnswer: There are fewer within so many seconds.
        """
        with self.news:
            if not self.news.wait_for(lambda: self.pollers >= count, within):
                raise NoAnswer(f"only {self.pollers} of {count} workers requested an event")

    # ---- the runtime's side: called by the connections' threads ------------------------------

    def headers_of(self, event: runtime_api.Event) -> dict[str, str]:
        """Return the event's headers; the deadline counts from this call."""
        return {
            **super().headers_of(event),
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._told) * 1000)),
            "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
            # Lambda sends this header in this mode, and expects it back with the answer.
            "Lambda-Runtime-Invocation-Id": event.request_id[::-1],
        }

    def restored(self, connection: socket.socket) -> bool:
        """Wait for the restore; return False once the runtime or the server has ended."""
        with self.news:
            self._snapshots += 1
            self.news.notify_all()
        return self.stays(connection, lambda: self._is_restored)

    def post_restore_error(self, body: str, error: str | None) -> HTTPStatus:
        """Accept the error of a hook that failed after the restore."""
        with self.news:
            self._restore_errors.append(InitError(json.loads(body), error, is_first=True))
            self.news.notify_all()
            return HTTPStatus.ACCEPTED

    def post_init_error(self, body: str, error: str | None) -> HTTPStatus:
        """Accept a worker's error at init; like Lambda, keep the first one."""
        with self.news:
            is_first = not self._init_errors
            self._init_errors.append(InitError(json.loads(body), error, is_first))
            self.news.notify_all()
            return HTTPStatus.ACCEPTED if is_first else HTTPStatus.FORBIDDEN
