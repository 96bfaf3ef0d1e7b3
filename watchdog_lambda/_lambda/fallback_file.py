"""The answer that a handler's ``fallback`` has ready, where the supervisor can read it.

A static one is known once the handler is; it is written down then, as the caller would get it. A
callable one is the watchdog's to call at last call, if it can still run; what comes of that is for
one invocation.
"""

from __future__ import annotations

import os


class FallbackFile:
    """A file in memory with at most one answer: whose it is, its content type, its body.

    Raises:
        OSError, AttributeError: the system has no files in memory.
    """

    __slots__ = ("_descriptor",)

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("watchdog_lambda.fallback")

    def write(self, request_id: str, kind: str, body: bytes) -> None:
        """Store an answer: for one invocation, or for all with an empty `request_id`.

        Thread: the one that has it, in the runtime's process, while no other writes.
        """
        # With its length, so that half of an answer is read as none.
        head = f"{request_id}\n{kind}\n{len(body)}\n".encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, head + body, 0)

    def clear(self) -> None:
        """Have none."""
        os.ftruncate(self._descriptor, 0)

    def read(self, request_id: str) -> tuple[str, bytes] | None:
        """Content type and body for an invocation; None if there is none."""
        try:
            size = os.fstat(self._descriptor).st_size
            whose, kind, length, body = os.pread(self._descriptor, size, 0).split(b"\n", 3)
        except (OSError, ValueError):
            return None
        if len(body) != int(length) or whose not in {b"", request_id.encode()}:
            return None
        return kind.decode("latin-1"), body
