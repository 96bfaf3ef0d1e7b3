"""Runs functions with other vendors' wrappers, and receives what they send to the vendors."""

from __future__ import annotations

import gzip
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.runtime.emulator import Emulator

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = os.environ.get("WRAPPERS_PYTHON")
"""The interpreter of the environment with the vendors' packages, which `dev.py wrappers` gives."""
HANDLERS: Final = Path(__file__).parent / "handlers"
ENTRYPOINT: Final = "watchdog_lambda.entrypoint.handler"
TIMEOUT: Final = 4


def function(
    handler: str,
    environment: Mapping[str, str],
    *,
    module: str = "awslambdaric",
    cwd: Path = HANDLERS,
    timeout: int = TIMEOUT,
    warm_up: object = None,
) -> Emulator:
    """Make an emulator for the runtime's `handler`, with the package of this checkout."""
    return Emulator(
        [str(PYTHON), "-m", module, handler],
        cwd=cwd,
        timeout=timeout,
        environment={
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_PROXY": "127.0.0.1",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_REGION": "eu-west-1",
            **environment,
        },
        warm_up=warm_up,
    )


class Endpoint:
    """A vendor's intake, which keeps the decoded posts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.bodies: list[bytes] = []
        self.paths: list[str] = []

    def count(self, text: str) -> int:
        """Return how many of the posts contain this text."""
        return sum(text.encode() in body for body in self.bodies)


@contextmanager
def endpoint(tls: ssl.SSLContext | None = None) -> Iterator[Endpoint]:
    """Listen on the loopback for the block."""

    class Intake(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            found.bodies.append(body)
            found.paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Intake) as server:
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        found = Endpoint(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
