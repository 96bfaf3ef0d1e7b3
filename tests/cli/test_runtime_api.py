"""Tests of the built-in Runtime API with requests made by hand."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from typing import TYPE_CHECKING, ClassVar

import pytest

from watchdog_lambda.cli.runtime_api import Event, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIME = "/2018-06-01/runtime"
EXTENSION = "/2020-01-01/extension"


class Client:
    """A runtime's connection to the API."""

    opened: ClassVar[list[http.client.HTTPConnection]] = []

    def __init__(self, api: RuntimeApi) -> None:
        self.connection = http.client.HTTPConnection(api.address, timeout=10)
        self.opened.append(self.connection)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    """Return a server for one test."""
    server = RuntimeApi("orders")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def connections_closed() -> Iterator[None]:
    """Close the connections that the test has opened."""
    yield
    for connection in Client.opened:
        connection.close()
    Client.opened.clear()


def test_one_event_gets_one_answer(api: RuntimeApi) -> None:
    """An event is delivered with its deadline and gets one answer.

    A second answer, or one to an unknown event, is refused.
    """
    client = Client(api)
    event = Event("id-1", b'{"a": 1}', 1234.5678)
    api.hand_over(event)

    status, headers, body = client.ask("GET", f"{RUNTIME}/invocation/next")

    assert (status, body) == (200, b'{"a": 1}')
    assert headers["Lambda-Runtime-Aws-Request-Id"] == "id-1"
    assert headers["Lambda-Runtime-Deadline-Ms"] == "1234567"
    assert headers["Lambda-Runtime-Invoked-Function-Arn"].endswith(":orders")
    assert client.ask("POST", f"{RUNTIME}/invocation/id-2/response")[0] == 400
    assert client.ask("POST", f"{RUNTIME}/invocation/id-1/error", b"first")[0] == 202
    assert client.ask("POST", f"{RUNTIME}/invocation/id-1/response", b"second")[0] == 403
    assert event.posted is not None
    assert (event.posted.kind, event.posted.body) == ("error", "first")


def test_extension_can_register_only_before_the_first_event(api: RuntimeApi) -> None:
    """An extension can register before the first event and not later.

    A process that starts anew may register again.
    """
    client = Client(api)
    status, headers, _ = client.ask("POST", f"{EXTENSION}/register")
    assert (status, api.has_extension) == (200, True)
    assert headers["Lambda-Extension-Identifier"]
    api.hand_over(Event("id-1", b"{}", 0.0))
    client.ask("GET", f"{RUNTIME}/invocation/next")

    assert client.ask("POST", f"{EXTENSION}/register")[0] == 403
    api.begin_process()
    assert api.has_extension is False
    assert client.ask("POST", f"{EXTENSION}/register")[0] == 200


def test_dead_poller_gets_no_event(api: RuntimeApi) -> None:
    """A poller that was killed while it waited gets no event. The next poller gets it."""
    gone = Client(api)
    with contextlib.suppress(TimeoutError):
        gone.connection.timeout = 0.2
        gone.ask("GET", f"{RUNTIME}/invocation/next")
    with api.news:
        assert api.pollers == 1
    gone.connection.close()
    with api.news:
        assert api.news.wait_for(lambda: api.pollers == 0, 10)
    api.hand_over(Event("id-1", b"{}", 0.0))

    assert Client(api).ask("GET", f"{RUNTIME}/invocation/next")[0] == 200


def test_close_ends_waiting_pollers() -> None:
    """close() ends a waiting poller and a waiting extension, without waiting for them."""
    api = RuntimeApi("orders")
    ended: list[str] = []

    def wait(path: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            Client(api).ask("GET", path)
        ended.append(path)

    paths = [f"{RUNTIME}/invocation/next", f"{EXTENSION}/event/next"]
    threads = [threading.Thread(target=wait, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    with api.news:
        assert api.news.wait_for(lambda: api.pollers == 1, 10)
    began = time.monotonic()
    api.close()
    for thread in threads:
        thread.join(10)

    assert sorted(ended) == sorted(paths)
    assert time.monotonic() - began < 5


def test_unsupported_paths_give_404(api: RuntimeApi) -> None:
    """Requests for telemetry, snapshots and the like get 404."""
    client = Client(api)

    assert client.ask("GET", f"{RUNTIME}/restore/next")[0] == 404
    assert client.ask("POST", f"{RUNTIME}/restore/error")[0] == 404
    assert client.ask("POST", "/2022-07-01/telemetry")[0] == 404
