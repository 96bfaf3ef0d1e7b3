"""Tests of the Runtime API's address, of forged requests, and of a server that does not answer."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda import ConfigurationError
from watchdog_lambda._lambda.plain_http import Event, PlainApi, Unanswered


def test_refused_and_silent_connections_raise_in_time() -> None:
    """A refused connection is an error at once, and a silent server after the given time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unanswered, match="timed out"):
            PlainApi(f"127.0.0.1:{port}").post("init/error", b"{}", {}, 0.05)
    with pytest.raises(OSError, match="refused"):
        PlainApi(f"127.0.0.1:{port}").post("init/error", b"{}", {}, 1.0)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("invocation/id\r\nHost: elsewhere/error", {}),
        ("invocation/an id/error", {}),
        ("invocation/id/error", {"Lambda-Runtime-Invocation-Id": "id\r\nX: 1"}),
    ],
)
def test_request_id_cannot_forge_a_request(path: str, headers: dict[str, str]) -> None:
    """A request identifier cannot forge a request.

    A context is the user's, and may contain any text there.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ValueError, match="cannot be sent by HTTP"),
    ):
        PlainApi(f"127.0.0.1:{silent.getsockname()[1]}").post(path, b"{}", headers, 1.0)


def test_overdue_post_still_gets_a_moment() -> None:
    """A post after its deadline is tried, for a moment, and raises no other error."""
    began = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Unanswered, match="timed out"),
    ):
        PlainApi(f"127.0.0.1:{silent.getsockname()[1]}").post("init/error", b"{}", {}, -1.0)
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(("seconds", "timeout"), [(0.25, 0.25), (-1.0, 0.001)])
def test_operations_of_a_connection_have_its_timeout(seconds: float, timeout: float) -> None:
    """The operations of a connection have the given timeout, or a moment if there is none left."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = PlainApi(f"127.0.0.1:{silent.getsockname()[1]}")
        given, default = api.connect(seconds), api.connect()
        assert given.gettimeout() == timeout
        assert (default.gettimeout() or 0.0) >= 0.5
        given.close()
        default.close()


def test_body_may_come_in_pieces() -> None:
    """A body whose rest comes later than the headers is read completely."""
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", b"l", b"lo"]
    connection: Any = SimpleNamespace(recv=lambda _most: pieces.pop(0))

    assert Event(connection).read() == b"hello"


def test_connection_sends_small_requests_at_once() -> None:
    """A connection does not wait for more to send, which would delay an answer by 40 ms."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = PlainApi(f"127.0.0.1:{silent.getsockname()[1]}").connect()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()


@pytest.mark.parametrize("port", [1, 65_535])
def test_every_port_is_accepted(port: int) -> None:
    """The lowest and the highest port are accepted."""
    PlainApi(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "address",
    [
        *("", "127.0.0.1", "127.0.0.1:", "http://127.0.0.1:80/"),
        *("127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:000080"),
        *("127.0.0.ä:80", "127.0.0.1\n:80"),
    ],
)
def test_invalid_address_is_refused_at_start(address: str) -> None:
    """An address that is not a host and port, as Lambda gives them, is refused at the start."""
    with pytest.raises(ConfigurationError, match=r"AWS_LAMBDA_RUNTIME_API=.*127\.0\.0\.1:9001"):
        PlainApi(address)
