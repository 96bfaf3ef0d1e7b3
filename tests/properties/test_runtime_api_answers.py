"""For any response of the Runtime API our client says whether the answer was taken, or why not."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from watchdog_lambda import ConfigurationError
from watchdog_lambda._lambda.plain_http import PlainApi

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 0.05
"""The number of seconds that the client waits for a response."""

MOST = 3.0
"""A wait that takes more seconds than this is not bounded, even on a busy machine."""


class Server:
    """Answers every connection with the same bytes, and then closes it or sends nothing more."""

    def __init__(self) -> None:
        self.says = b""
        self.hangs_up = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65_536)
                    connection.sendall(self.says)
                    if not self.hangs_up:
                        connection.settimeout(MOST)
                        connection.recv(1)  # until the client has closed the connection


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


LINES = (
    b"HTTP/1.1 202 Accepted", b"HTTP/1.1 200 OK", b"HTTP/1.0 403 No", b"HTTP/1.1 500 x", b"", b"\0",
    b"HTTP/1.1 100 Continue", b"HTTP/1.1 99999 x", b"HTTP/9.9 200 OK", b"ICY 200 OK",
)  # fmt: skip
HEADERS = (
    b"Content-Length: 2", b"Content-Length: 2000000000000", b"Content-Length: -1", b": ",
    b"Content-Length: two", b"Transfer-Encoding: chunked", b"Connection: close", b"no header",
    b"Lambda-Extension-Identifier: ext-1", b"Lambda-Extension-Identifier: \xff", b"a" * 70_000,
)  # fmt: skip
line, header = st.sampled_from(LINES), st.sampled_from(HEADERS)
body = st.sampled_from([b"", b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"zz\r\n", b"\xff\xfe", b"x" * 5000])
answers = st.one_of(
    st.binary(max_size=60),
    st.tuples(line, st.lists(header, max_size=4), body).map(
        lambda parts: b"\r\n".join([parts[0], *parts[1], b"", parts[2]])
    ),
    st.tuples(line, st.integers(0, 30)).map(lambda parts: (parts[0] + b"\r\n\r\n{}")[: parts[1]]),
)


@given(says=answers, hangs_up=st.integers(0, 9).map(bool))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@example(says=b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", hangs_up=True)
@example(says=b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{", hangs_up=False)
@example(says=b"", hangs_up=False)
def test_any_response_is_handled_in_time(
    server: Server,
    says: bytes,
    hangs_up: bool,  # noqa: FBT001
) -> None:
    """Any response to an answer or a registration is accepted or refused in time.

    Only the documented exceptions are raised.
    """
    server.says, server.hangs_up = says, hangs_up
    api = PlainApi(server.address)
    began = time.monotonic()

    with suppress(OSError):
        status, said = api.post("invocation/id-1/response", b"{}", {}, SECONDS)
        assert str(status).encode() in says
        assert len(said) <= 200
    with suppress(OSError):
        api.register_extension("watchdog-lambda", SECONDS).close()
        assert b" 200" in says

    assert time.monotonic() - began < MOST


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=30))
@example("127.0.0.1:99999")
@example("127.0.0.1:0")
@example("a b:80")
@example("a/b:80")
@example("me@host:80")
@example("\u2028:80")
def test_any_address_is_valid_or_refused_at_start(address: str) -> None:
    """Any address is valid, or is refused at the start and not only by the first request."""
    try:
        PlainApi(address)
    except ConfigurationError as error:
        message = str(error)
        assert repr(address) in message
        assert "127.0.0.1:9001" in message
        return

    host, _, port = address.rpartition(":")
    assert 0 < int(port) < 65_536
    assert host.isascii()
    assert not set(host) & set(" /@?#\\\r\n\t")
