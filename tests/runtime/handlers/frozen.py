"""A handler that records every signal of its process, and a hook that may hang."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from watchdog_lambda import shutdown_hook

if TYPE_CHECKING:
    from watchdog_lambda import TimeoutDetails

hangs_until = 0.0
hook_ends: list[str] = []


@shutdown_hook
def hook(details: TimeoutDetails) -> None:
    """Run far beyond its budget."""
    while time.monotonic() < hangs_until:
        time.sleep(0.01)
    hook_ends.append(details.request_id)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Watch for signals for so many seconds, or hang, with a hook that hangs even longer."""
    global hangs_until  # noqa: PLW0603 - the hook reads it
    answer: dict[str, Any] = {"pid": os.getpid()}
    if "watch" in event:
        answer["signals"] = watch(event["watch"])
        answer["hook_ends"] = hook_ends
    if "hang" in event:
        hangs_until = time.monotonic() + event.get("hook", 0.0)
        time.sleep(event["hang"])
    return answer


def watch(seconds: float) -> list[int]:
    """Return every signal that Python takes meanwhile.

    Each leaves its number in the wake-up pipe.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno())
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(0.005)
        finally:
            signal.set_wakeup_fd(before)
        try:
            return list(reader.recv(4096))
        except BlockingIOError:
            return []
