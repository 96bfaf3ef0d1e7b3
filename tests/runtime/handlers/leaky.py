"""A handler that puts secrets into everything that the package could write."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from types import SimpleNamespace
from typing import Any

from watchdog_lambda import (
    TimeoutDetails,
    sandbox_shutdown_hook,
    scoped_hook,
    shutdown_hook,
    watch,
)
from watchdog_lambda.batch import BatchProcessor, EventType, process_partial_response

seen: list[str] = []
of_environment = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
processor = BatchProcessor(EventType.SQS)


def spoil(details: TimeoutDetails) -> None:
    """A hook whose error quotes the event."""
    raise ValueError(f"cannot flush {seen} {of_environment}")


shutdown_hook(spoil)


@sandbox_shutdown_hook
def spoil_the_end() -> None:
    """A hook of the sandbox's end whose error quotes the event."""
    raise ValueError(f"cannot close {seen} {of_environment}")


def fall_back(details: TimeoutDetails) -> Any:
    """A fallback whose error quotes the event."""
    raise KeyError(seen[-1])


def release(secret: str) -> None:
    """A scoped hook that gets the secret as its argument."""
    raise RuntimeError(secret)


class Held:
    """An object with a secret in its representation, and in an error that its finaliser raises."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"Held({self._secret})"


def _handle(event: dict[str, Any], context: Any) -> Any:
    secret = event["secret"]
    held = Held(event["local"])
    seen.append(secret)
    context.client_context = SimpleNamespace(custom={"secret": event["context"]}, env={})
    context.identity = Held(event["context"])
    beside = threading.Thread(target=linger, args=(secret, held), daemon=True)
    beside.start()
    with scoped_hook(release, secret):
        return _do(event["do"], event, held)


def _do(do: str, event: dict[str, Any], held: Held) -> Any:
    if do == "print":
        print(event, held, os.environ["AWS_SECRET_ACCESS_KEY"], flush=True)
        raise ValueError(event["message"])
    if do == "sleep":
        time.sleep(60)
    if do == "swallow":
        swallow(event)
    if do == "drop":
        drop(event)
    if do == "make an error of it":
        try:
            time.sleep(60)
        except TimeoutError:
            raise ConnectionError(event["message"]) from None
    if do == "answer":
        try:
            time.sleep(60)
        except TimeoutError:
            return {"answer": "none"}
    if do == "batch":
        return process_partial_response(
            event=event["batch"], record_handler=read, processor=processor, context=None
        )
    if do == "stuck":
        mutex = ctypes.create_string_buffer(64)
        libc = ctypes.CDLL(None)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
    if do == "hold the GIL":
        sum(range(10**12))
    if do == "exit":
        os._exit(3)
    return {"ok": True}


def swallow(event: dict[str, Any]) -> None:
    """Raise an error with a secret message from each interrupt, and another from that."""
    try:
        time.sleep(60)
    except BaseException as error:
        raise ValueError(event["message"]) from error


def drop(event: dict[str, Any]) -> Any:
    """Swallow two interrupts; the third one ends the handler."""
    for _ in range(2):
        try:
            time.sleep(60)
        except BaseException as error:
            seen.append(f"{error!r} {event}")
    time.sleep(60)


def read(record: Any) -> None:
    """A record handler that raises the second record's content, and hangs in the third.

    The first record is done, because if all fail Powertools raises an error with their messages.
    """
    if record.message_id == "message-1":
        raise ValueError(record.body)
    if record.message_id == "message-2":
        time.sleep(60)


def linger(secret: str, held: Held) -> None:
    """A thread with secrets in its locals."""
    time.sleep(3)


plain = _handle
falls_back = watch(fallback=fall_back)(_handle)
