"""What a function writes, read while it writes it."""

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

_SYNC_WITHIN = 5.0  # seconds: the reader only has to catch up


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and ``time.monotonic()`` when it was read."""

    at: float
    text: str


class Log:
    """A pipe that a process writes to, and the lines that have come out of it.

    `on_line` is called for each, on the reader's thread. The write end stays open here, so that
    :meth:`sync` can tell that everything written so far has been read: what it writes itself comes
    out last. That needs no end of file, which a handler's child could keep away.
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
        """Wait until what has been written so far has been read. Thread: one at a time."""
        os.write(self.write_end, self._token)
        self._synced.acquire(timeout=_SYNC_WITHIN)

    def close(self) -> None:
        """Read to here, and no further. Idempotent."""
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
                # What has no line break yet is a line as well: it might never get one.
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
            # The terminal that shows them may be gone; the function must not wait for that.
            with contextlib.suppress(OSError, ValueError):
                self._on_line(Line(at, line.decode(errors="replace")))
