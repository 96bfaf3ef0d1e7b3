"""The Runtime API over a connection of one's own, against a server on loopback."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND
from watchdog_lambda import ConfigurationError
from watchdog_lambda._lambda.runtime_api import Refused, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server(HTTPServer):
    """Keeps what it is sent, and answers as it is told to."""

    status = 202
    headers: dict[str, str]
    seen: list[tuple[str, dict[str, str], bytes]]


class Answering(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"what Lambda says")

    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Answering)
    server.seen, server.headers = [], {}
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    yield server
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def api(server: Server) -> RuntimeApi:
    return RuntimeApi(f"127.0.0.1:{server.server_port}")


def test_an_error_goes_to_its_invocation_with_its_type(server: Server, api: RuntimeApi) -> None:
    """As awslambdaric posts it, and with the header that keeps answers apart."""
    error = {"errorType": "LambdaTimeout", "errorMessage": "gave up"}

    api.post_error("id-1", error, {"Lambda-Runtime-Invocation-Id": "inv-1"}, 1.0)

    ((path, headers, body),) = server.seen
    assert path == "/2018-06-01/runtime/invocation/id-1/error"
    assert headers["Lambda-Runtime-Function-Error-Type"] == "LambdaTimeout"
    assert headers["Lambda-Runtime-Invocation-Id"] == "inv-1"
    assert body == b'{"errorType": "LambdaTimeout", "errorMessage": "gave up"}'


def test_a_response_goes_with_its_content_type(server: Server, api: RuntimeApi) -> None:
    """JSON unless the fallback is bytes."""
    api.post_response("id-1", b"raw", {"Content-Type": "application/unknown"}, 1.0)

    ((path, headers, body),) = server.seen
    assert (path, body) == ("/2018-06-01/runtime/invocation/id-1/response", b"raw")
    assert headers["Content-Type"] == "application/unknown"


def test_what_lambda_refuses_is_said(server: Server, api: RuntimeApi) -> None:
    """With its status and its words."""
    server.status = 403

    with pytest.raises(Refused, match="403 what Lambda says"):
        api.post_response("id-1", b"{}", {}, 1.0)
    with pytest.raises(Refused, match="403"):
        api.register_extension()


def test_an_extension_wants_no_events(server: Server, api: RuntimeApi) -> None:
    """With INVOKE every invocation would wait for it."""
    server.status, server.headers = 200, {"Lambda-Extension-Identifier": "ext-1"}

    assert api.register_extension() == "ext-1"

    ((path, headers, body),) = server.seen
    assert path == "/2020-01-01/extension/register"
    assert headers["Lambda-Extension-Name"] == "watchdog-lambda"
    assert body == b'{"events": []}'


def test_an_answer_without_identifier_is_none(server: Server, api: RuntimeApi) -> None:
    """Nothing to ask for the next event with."""
    server.status = 200

    with pytest.raises(Refused, match="Lambda-Extension-Identifier"):
        api.register_extension()


def test_nobody_there_and_nobody_speaking_http_are_errors_in_time() -> None:
    """A refused connection at once, a silent one after the time given."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(OSError, match="timed out"):
            RuntimeApi(f"127.0.0.1:{port}").post_response("id-1", b"{}", {}, 0.05)
    with pytest.raises(OSError, match="refused"):
        RuntimeApi(f"127.0.0.1:{port}").post_response("id-1", b"{}", {}, 1.0)


def test_an_answer_that_is_no_http_is_refused() -> None:
    """Something else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        api = RuntimeApi(f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(Refused, match=r"no HTTP answer \(BadStatusLine\)"):
            api.post_response("id-1", b"{}", {}, BOUND)
        greeting.join(BOUND)


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:", "http://127.0.0.1:80/"])
def test_what_is_no_address_is_refused_at_start(address: str) -> None:
    """Host and port, as Lambda gives them."""
    with pytest.raises(ConfigurationError, match=r"AWS_LAMBDA_RUNTIME_API=.*127\.0\.0\.1:9001"):
        RuntimeApi(address)
