"""What stands between a client and its server: holds back answers, and counts requests."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from contextlib import suppress

from .cases import MARK

_NUMBER = re.compile(rb"\bn-(\d+)")
_REQUEST = re.compile(rb"(?:GET|POST|PUT|HEAD|DELETE|PATCH) \S+ HTTP/1\.[01]\r\n|" + MARK.encode())


class Valve:
    """One server's, for one function. Closed, it lets requests through and no answer.

    Answers that were held back come when it is opened: to a client that has gone on meanwhile, they
    belong to another request. Thread: any.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self.requests = 0
        self.numbers = Counter[bytes]()
        """How often each number has been asked for, where it can be read."""
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Let no answer through."""
        self._open.clear()

    def open(self) -> None:
        """Let everything through, and what was held back first."""
        self._open.set()

    def close(self) -> None:
        """End every connection."""
        self._open.set()
        for each in (self._listening, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server))
                except OSError:
                    client.close()
                    continue
                self._sockets += client, server
                for arguments in ((client, server, None), (server, client, self._open)):
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(
        self, source: socket.socket, drain: socket.socket, gate: threading.Event | None
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if gate is None:
                    self.requests += len(_REQUEST.findall(data))
                    self.numbers.update(_NUMBER.findall(data))
                else:
                    gate.wait()
                drain.sendall(data)
        with suppress(OSError):
            drain.shutdown(socket.SHUT_WR)
