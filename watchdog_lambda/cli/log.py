"""Reads a function's output while the function writes it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SYNC_WITHIN = 5.0  # seconds for the reader to catch up


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with the ``time.monotonic()`` at which it was read."""

    at: float
    text: str


class Log:
    """A pipe that a process writes to, and a thread that reads lines from it.

    The reader's thread calls `on_line` for each line. We keep the write end open too: :meth:`sync`
    writes a token, and once the reader sees the token, it has read everything written before. We
    do not wait for end of file, because a child of the handler could hold the pipe open.
    """

    def __init__(self, name: str, on_line: Callable[[Line], None]) -> None:
        self._read_end, self.write_end = os.pipe()
        self._on_line = on_line
        self._token = f"\0{uuid.uuid4().hex}\n".encode()
        self._synced = threading.Semaphore(0)
        self._is_open = True
        self._reader = threading.Thread(target=self._read, name=f"log-{name}", daemon=True)
        self._reader.start()

    def sync(self) -> None:
        """Wait until everything written so far has been read. Thread: one at a time."""
        os.write(self.write_end, self._token)
        self._synced.acquire(timeout=_SYNC_WITHIN)

    def close(self) -> None:
        """Read everything written so far, then stop. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self.sync()
        self._reader.join(_SYNC_WITHIN)
        os.close(self.write_end)
        os.close(self._read_end)

    def _read(self) -> None:
        pending = b""
        while data := os.read(self._read_end, 65536):
            pending += data
            while self._token in pending:
                parts = pending.split(self._token, 1)
                # Pass on an unfinished line too: its line break may never come.
                self._tell(parts[0].removesuffix(b"\n").split(b"\n") if parts[0] else [])
                pending = parts[1]
                is_last = not self._is_open
                self._synced.release()
                if is_last:
                    return
            lines = pending.split(b"\n")
            pending = lines.pop()
            self._tell(lines)

    def _tell(self, lines: list[bytes]) -> None:
        at = time.monotonic()
        for line in lines:
            # The terminal may be gone. The reader must go on, or the function blocks on the pipe.
            with contextlib.suppress(OSError, ValueError):
                self._on_line(Line(at, line.decode(errors="replace")))
