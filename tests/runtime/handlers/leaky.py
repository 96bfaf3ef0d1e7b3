"""A handler whose event is secret, and gets into everything that a program can leave behind."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

from watchdog_lambda import TimeoutDetails, scoped_hook, shutdown_hook, watch

seen: list[str] = []


def spoil(details: TimeoutDetails) -> None:
    """A hook whose error quotes the event."""
    raise ValueError(f"cannot flush {seen}")


shutdown_hook(spoil)


def fall_back(details: TimeoutDetails) -> Any:
    """A fallback whose error quotes it."""
    raise KeyError(seen[-1])


def release(secret: str) -> None:
    """A scoped hook that is given it."""
    raise RuntimeError(secret)


def _handle(event: dict[str, Any], context: object) -> Any:
    secret = event["secret"]
    seen.append(secret)
    beside = threading.Thread(target=linger, args=(secret,), daemon=True)
    beside.start()
    do = event["do"]
    with scoped_hook(release, secret):
        if do == "sleep":
            time.sleep(60)
        if do == "swallow":
            while True:
                try:
                    time.sleep(60)
                except BaseException as error:
                    if seen.count(secret) > 3:
                        return {"answer": "none"}
                    seen.append(secret)
                    raise ValueError(secret) from error
        if do == "make an error of it":
            try:
                time.sleep(60)
            except TimeoutError:
                raise ConnectionError(secret) from None
        if do == "stuck":
            mutex = ctypes.create_string_buffer(64)
            libc = ctypes.CDLL(None)
            libc.pthread_mutex_lock(mutex)
            libc.pthread_mutex_lock(mutex)
        if do == "hold the GIL":
            sum(range(10**12))
    return {"ok": True}


def linger(secret: str) -> None:
    """A thread with the secret in its locals."""
    time.sleep(3)


plain = _handle
falls_back = watch(fallback=fall_back)(_handle)
