"""A handler that connects to the address that the event gives, or does not connect at all."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from typing import Any


def handler(event: dict[str, Any], _context: object) -> Any:
    """Do what the event says."""
    do = event["do"]
    if do == "redirect":
        # The address from the start counts, even if the variable is changed later.
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
