"""The answer that a handler's ``fallback`` has ready, where the supervisor can read it.

A static one is known once the handler is; it is written down then, as the caller would get it. A
callable one is the watchdog's to call at last call, if it can still run; what comes of that is for
one invocation.
"""

from __future__ import annotations

import os


class FallbackFile:
    """Two files in memory, with at most one answer in each: whose it is, content type, body.

    One for all invocations, and one for one: a handler that has been given up may come back, and
    the next one has the first again.

    Raises:
        OSError, AttributeError: the system has no files in memory.
    """

    __slots__ = ("_for_all", "_for_one")

    def __init__(self) -> None:
        self._for_all = os.memfd_create("watchdog_lambda.fallback")
        self._for_one = os.memfd_create("watchdog_lambda.fallback")

    def write(self, request_id: str, kind: str, body: bytes) -> None:
        """Store an answer: for one invocation, or for all with an empty `request_id`.

        Thread: the one that has it, in the runtime's process, while no other writes.
        """
        # With its length, so that half of an answer is read as none.
        head = f"{request_id}\n{kind}\n{len(body)}\n".encode()
        descriptor = self._for_one if request_id else self._for_all
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, head + body, 0)

    def clear(self) -> None:
        """Have none."""
        for descriptor in (self._for_one, self._for_all):
            os.ftruncate(descriptor, 0)

    def read(self, request_id: str) -> tuple[str, bytes] | None:
        """Content type and body for an invocation; None if there is none."""
        return _read(self._for_one, request_id) or _read(self._for_all, "")


def _read(descriptor: int, request_id: str) -> tuple[str, bytes] | None:
    try:
        size = os.fstat(descriptor).st_size
        whose, kind, length, body = os.pread(descriptor, size, 0).split(b"\n", 3)
    except (OSError, ValueError):
        return None
    if len(body) != int(length) or whose != request_id.encode():
        return None
    return kind.decode("latin-1"), body
