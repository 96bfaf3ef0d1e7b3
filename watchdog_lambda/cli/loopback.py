"""An HTTP server on a free loopback port, for runtimes that may be killed at any moment."""

from __future__ import annotations

import select
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from http import HTTPStatus


def has_hung_up(connection: socket.socket) -> bool:
    """Return whether the peer is gone. A dead runtime must not be handed an event."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True


class Server(ThreadingMixIn, HTTPServer):
    """A server with a thread per connection that can close all connections at once."""

    daemon_threads = True

    def __init__(self, connection: type[Connection]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), connection)

    @property
    def address(self) -> str:
        """Host and port, in the format of ``AWS_LAMBDA_RUNTIME_API``."""
        return f"127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close every connection, so that its thread ends too."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about runtimes that are killed in the middle of a request."""


class Connection(BaseHTTPRequestHandler):
    """One connection. The runtime's client keeps it for all its requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # buffered, so that headers and body go out in one segment

    def body(self) -> str:
        """Return the body of the request."""
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length).decode(errors="replace")

    def reply(
        self, status: HTTPStatus, body: bytes = b"{}", headers: dict[str, str] | None = None
    ) -> None:
        """Send a JSON response."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing."""
