"""Lambda's Runtime API, where the runtime's own client cannot serve.

awslambdaric's client is one connection that is not safe to use from two threads, and holds the GIL
while it posts. So whoever speaks for a handler that is stuck, or for the process, does it over a
connection of its own, and only ever to the address that Lambda has given.

Documents: "Using the Lambda runtime API for custom runtimes" (2018-06-01) and "Using the Lambda
Extensions API to create extensions" (2020-01-01).
"""

from __future__ import annotations

import json

from watchdog_lambda.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPConnection, HTTPResponse

EXTENSION = "watchdog-lambda"
"""The internal extension's name; Lambda wants it unique within a function."""

LONGEST_WAIT = 1.0
"""Seconds for one answer of the API: it is on this machine."""


class Refused(Exception):
    """The API did not take what it was given; the message says what it said."""


class RuntimeApi:
    """The API at one address.

    Raises:
        ConfigurationError: the address is not host and port.

    Thread: any; every call has a connection of its own.
    """

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

    def preload(self) -> None:
        """Import what the calls need: some 15 ms, most of them for ssl."""
        import http.client  # noqa: PLC0415, F401  # pyright: ignore[reportUnusedImport]

    def post_response(
        self, request_id: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> None:
        """Post an invocation's result, within so many seconds.

        Raises:
            Refused: Lambda did not take it; it takes one answer for each invocation.
            OSError: it could not be reached in time.
        """
        path = f"/2018-06-01/runtime/invocation/{request_id}/response"
        self._post(path, body, headers, seconds)

    def post_error(
        self,
        request_id: str,
        error: Mapping[str, object],
        headers: Mapping[str, str],
        seconds: float,
    ) -> None:
        """Post an invocation's error: ``errorType``, ``errorMessage``, ``stackTrace``.

        Raises:
            Refused: Lambda did not take it; it takes one answer for each invocation.
            OSError: it could not be reached in time.
        """
        path = f"/2018-06-01/runtime/invocation/{request_id}/error"
        kind = {"Lambda-Runtime-Function-Error-Type": str(error["errorType"])}
        self._post(path, json.dumps(error).encode(), {**headers, **kind}, seconds)

    def register_extension(self) -> str:
        """Register an internal extension that wants no events; its identifier.

        Before the runtime asks for its first event only. With it Lambda announces the sandbox's end
        by SIGTERM, 500 ms ahead.

        Raises:
            Refused: Lambda did not take it (too late, or more than ten extensions).
            OSError: it could not be reached in time.
        """
        connection = self._connect(LONGEST_WAIT)
        try:
            connection.request(
                "POST",
                "/2020-01-01/extension/register",
                # With INVOKE every invocation would wait for us, and after a restart for good.
                b'{"events": []}',
                {"Lambda-Extension-Name": EXTENSION, "Content-Type": "application/json"},
            )
            response = _taken(connection)
            identifier = response.headers.get("Lambda-Extension-Identifier")
        finally:
            connection.close()
        if not identifier:
            raise Refused("no Lambda-Extension-Identifier in the answer")
        return identifier

    def wait_for_no_event(self, identifier: str) -> HTTPConnection:
        """Ask for the extension's next event, which never comes; keep what this returns.

        The initialisation is not over before every extension has asked.

        Raises:
            OSError: the API could not be reached in time.
        """
        connection = self._connect(LONGEST_WAIT)
        connection.request(
            "GET",
            "/2020-01-01/extension/event/next",
            headers={"Lambda-Extension-Identifier": identifier},
        )
        return connection

    def _post(self, path: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
        connection = self._connect(min(seconds, LONGEST_WAIT))
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            _taken(connection)
        finally:
            connection.close()

    def _connect(self, seconds: float) -> HTTPConnection:
        from http.client import HTTPConnection  # noqa: PLC0415 - preloaded

        return HTTPConnection(self._address, timeout=max(seconds, 0.001))


def _taken(connection: HTTPConnection) -> HTTPResponse:
    """The answer to the request just sent, if it is a good one."""
    from http.client import HTTPException  # noqa: PLC0415 - preloaded

    try:
        response = connection.getresponse()
        said = response.read(1000).decode("utf-8", "replace")
    except HTTPException as error:
        raise Refused(f"no HTTP answer ({type(error).__name__})") from error
    if not 200 <= response.status < 300:
        raise Refused(f"{response.status} {said}")
    return response
