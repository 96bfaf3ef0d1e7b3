"""Tests of the Runtime API's address, of forged requests, and of a server that does not answer."""

from __future__ import annotations

import socket

import pytest

from watchdog_lambda import ConfigurationError
from watchdog_lambda._lambda.plain_http import PlainApi, Unanswered


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
        pytest.raises(ValueError, match="not to be sent by HTTP"),
    ):
        PlainApi(f"127.0.0.1:{silent.getsockname()[1]}").post(path, b"{}", headers, 1.0)


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:", "http://127.0.0.1:80/"])
def test_invalid_address_is_refused_at_start(address: str) -> None:
    """An address that is not a host and port, as Lambda gives them, is refused at the start."""
    with pytest.raises(ConfigurationError, match=r"AWS_LAMBDA_RUNTIME_API=.*127\.0\.0\.1:9001"):
        PlainApi(address)
