"""Lambda's Runtime API over a plain socket, for requests that the runtime's client cannot make.

That client has one connection, which is not safe to use from two threads, and it holds the GIL
while it posts. So code that answers for a stuck handler, or for the process, opens its own
connection for each request, and only to the address that Lambda has given. ``http.client`` would
take 15 ms of a cold start, and some megabytes in a supervisor, which must not import anything.

See the documents "Using the Lambda runtime API for custom runtimes" (2018-06-01) and "Using the
Lambda Extensions API to create extensions" (2020-01-01).
"""

from __future__ import annotations

from _socket import AF_INET, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket

from watchdog_lambda.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

EXTENSION: Final = "watchdog-lambda"
"""The internal extension's name, which must be unique within a function."""

LONGEST_WAIT: Final = 1.0
"""Seconds to wait for an answer of the API, which is on this machine."""

_RUNTIME: Final = "/2018-06-01/runtime/"
_EXTENSION: Final = "/2020-01-01/extension/"
_PIECE: Final = 65_536


class Unanswered(OSError):
    """There was no answer, but the request may have been accepted."""


class PlainApi:
    """The Runtime API at one address, host and port.

    Every method raises OSError if the API cannot be reached.

    Raises:
        ConfigurationError: the address is not host and port.

    Thread: any.
    """

    __slots__ = ("_address", "_host", "_port")

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        is_host = host.isascii() and host.isprintable() and not set(host) & set(" /@?#\\")
        is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536
        if not (host and is_host and is_port):
            raise ConfigurationError(
                f"AWS_LAMBDA_RUNTIME_API={address!r} is not an address; Lambda sets it, for "
                "example to 127.0.0.1:9001"
            )
        self._address = address
        self._host, self._port = host, int(port)

    def connect(self, seconds: float = LONGEST_WAIT) -> socket:
        """Open a connection whose operations have this timeout."""
        connection = socket(AF_INET, SOCK_STREAM)
        try:
            connection.settimeout(max(seconds, 0.001))
            connection.connect((self._host, self._port))
            connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        except OSError:
            connection.close()
            raise
        return connection

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, str]:
        """Post to ``/runtime/``. Return the status and the beginning of the answer.

        Raises:
            OSError: the API could not be reached, and has accepted nothing.
            Unanswered: the request was sent completely or in part, and no answer came.
            ValueError: the path or a header contains characters that HTTP does not allow.
        """
        head = self._head("POST", _RUNTIME + path, {**headers, "Connection": "close"}, body)
        connection = self.connect(min(seconds, LONGEST_WAIT))
        try:
            connection.settimeout(max(seconds, 0.001))
            connection.sendall(head + body)
            return _answer(connection)
        except OSError as error:
            raise Unanswered(str(error)) from error
        finally:
            connection.close()

    def ask_for_event(self, connection: socket) -> None:
        """Send ``GET /next`` over an open connection; :class:`Event` reads the answer."""
        path = _RUNTIME + "invocation/next"
        connection.sendall(self._head("GET", path, {"User-Agent": "watchdog-lambda"}))

    def register_extension(self, name: str, seconds: float) -> socket:
        """Register an internal extension without events, and ask for its next event.

        This must happen before the runtime asks for its first event, because the init is not over
        before every extension has asked. With an extension, Lambda announces the sandbox's end by
        SIGTERM, 500 ms before. Keep the returned connection open as long as the process lives.

        Raises:
            OSError: the API refused it; the message has the API's answer.
        """
        body = b'{"events": []}'  # with INVOKE, every invocation would wait for us
        headers = {"Lambda-Extension-Name": name, "Content-Type": "application/json"}
        connection = self.connect(seconds)
        try:
            head = self._head("POST", f"{_EXTENSION}register", headers, body)
            connection.sendall(head + body)
            event = Event(connection)
            answer = event.read()
            identifier = event.headers.get("Lambda-Extension-Identifier")
            if event.status != 200 or not identifier:
                raise OSError(f"{event.status} {answer[:200].decode('utf-8', 'replace')}")
        finally:
            connection.close()
        connection = self.connect(seconds)
        path, wanted = f"{_EXTENSION}event/next", {"Lambda-Extension-Identifier": identifier}
        connection.sendall(self._head("GET", path, wanted))
        return connection

    def _head(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address}"]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if " " in path or not all(map(str.isprintable, lines)):
            raise ValueError(f"cannot be sent by HTTP: {lines!r}")  # an identifier may be anything
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class Event:
    """Reads one answer from a connection: status, headers, body."""

    __slots__ = ("_buffer", "_connection", "headers", "status")

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self.headers: dict[str, str] = {}

    def read(self) -> bytes:
        """Return the body. Then status and headers are set, with names in Title-Case.

        Raises:
            OSError: the connection was closed, or the answer is not HTTP.
        """
        try:
            return self._read()
        except ValueError as error:
            raise OSError(f"not an HTTP response: {error}") from error

    def _read(self) -> bytes:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        words = first.split()
        if len(words) < 2 or not words[1].isdecimal():
            raise OSError(f"not an HTTP response: {first[:60]!r}")
        self.status = int(words[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().title()] = value.strip()
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        return self._exactly(int(self.headers.get("Content-Length", "0")))

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            body += self._exactly(size)
            self._exactly(2)
        while self._until(b"\r\n"):
            pass  # trailers
        return bytes(body)

    def _more(self) -> None:
        piece = self._connection.recv(_PIECE)
        if not piece:
            raise OSError("the Runtime API has closed the connection")
        self._buffer += piece

    def _until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._more()
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found


def _answer(connection: socket) -> tuple[int, str]:
    event = Event(connection)
    body = event.read()
    return event.status, body[:200].decode("utf-8", "replace")
