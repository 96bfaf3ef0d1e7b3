"""A handler that connects to where the event says, or nowhere."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from typing import Any


def handler(event: dict[str, Any], _context: object) -> Any:
    """Do one thing."""
    do = event["do"]
    if do == "redirect":
        # What Lambda has said at the start counts, whatever becomes of the variable.
        os.environ["AWS_LAMBDA_RUNTIME_API"] = event["to"]
    if do == "phone":
        host, port = event["to"].split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    if do == "sleep":
        time.sleep(60)
    if do in {"stuck", "redirect"}:
        mutex = ctypes.create_string_buffer(64)
        libc = ctypes.CDLL(None)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
    return {"api": os.environ["AWS_LAMBDA_RUNTIME_API"]}
