"""The servers that the clients talk to: one that never answers, and what this machine has."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = {"postgresql": "postgresql", "redis": "redis-server"}
"""What to install for a server, by Debian's name."""

_READY_WITHIN: Final = 20.0


class StandIn:
    """An HTTP server that counts requests, and answers none of them while it is told to hang."""

    def __init__(self) -> None:
        stand_in = self
        self.requests = 0
        self.hangs = False
        self._going = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                """Any method."""
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stand_in.requests += 1
                if stand_in.hangs:
                    stand_in._going.wait(60.0)
                body = json.dumps(_ANSWER).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Elastic-Product", "Elasticsearch")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_HEAD = do  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

            def handle(self) -> None:
                """Bear a client that has gone."""
                with suppress(OSError):
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Let go of whoever waits."""
        self._going.set()
        self._server.shutdown()
        self._server.server_close()


_ANSWER: Final = {
    "object": "list",
    "data": [],
    "has_more": False,
    "TableNames": [],
    "version": {"number": "8.15.0"},
    "tagline": "You Know, for Search",
}


def available() -> set[str]:
    """The servers that can be started here."""
    found = {"http", "silent"}
    if shutil.which("redis-server"):
        found.add("redis")
    if _postgres() is not None:
        found.add("postgresql")
    return found


@contextmanager
def started(wanted: set[str]) -> Iterator[dict[str, int]]:
    """The ports of the servers, which end with the block."""
    with ExitStack() as stack:
        ports: dict[str, int] = {}
        if "redis" in wanted:
            ports["redis"] = stack.enter_context(_redis())
        if "postgresql" in wanted:
            ports["postgresql"] = stack.enter_context(_postgresql())
        yield ports


@contextmanager
def _redis() -> Iterator[int]:
    port = _free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _postgresql() -> Iterator[int]:
    programs = _postgres()
    if programs is None:
        raise FileNotFoundError("PostgreSQL's initdb; see PACKAGES")
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        # It refuses to run as root.
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if as_user:
            shutil.chown(folder, "postgres")
        data = f"{folder}/data"
        init = [str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres"]
        subprocess.run([*as_user, *init], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        serve = [str(programs / "postgres"), "-D", data, "-p", str(port), "-k", folder]
        serve += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        process = subprocess.Popen(
            [*as_user, *serve], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait()


def _postgres() -> Path | None:
    """The folder of PostgreSQL's programs, of the newest version that is there."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + _READY_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
