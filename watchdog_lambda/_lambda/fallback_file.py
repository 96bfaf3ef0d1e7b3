"""Stores the answer of a handler's ``fallback`` where the supervisor can read it.

A static fallback is known once the handler is, and is stored then, as the caller would get it. The
watchdog calls a callable one at last call, if it can still run; its result is for one invocation.
"""

from __future__ import annotations

import os


class FallbackFile:
    """Two files in memory, each with at most one answer: request id, content type, body.

    One file is for all invocations, the other for a single one: a handler that was given up on may
    still return, and then the first file applies to the next invocation again.

    Raises:
        OSError, AttributeError: the system has no files in memory.
    """

    __slots__ = ("_for_all", "_for_one")

    def __init__(self) -> None:
        self._for_all = os.memfd_create("watchdog_lambda.fallback")
        self._for_one = os.memfd_create("watchdog_lambda.fallback")

    def write(self, request_id: str, kind: str, body: bytes) -> None:
        """Store an answer for one invocation, or for all with an empty `request_id`.

        Thread: any in the runtime's process, one at a time.
        """
        # Store the length too, so that half of an answer does not count.
        head = f"{request_id}\n{kind}\n{len(body)}\n".encode()
        descriptor = self._for_one if request_id else self._for_all
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, head + body, 0)

    def clear(self) -> None:
        """Remove the answers."""
        for descriptor in (self._for_one, self._for_all):
            os.ftruncate(descriptor, 0)

    def read(self, request_id: str) -> tuple[str, bytes] | None:
        """Return content type and body for an invocation; None if there is no answer."""
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
