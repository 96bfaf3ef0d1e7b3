"""A handler with hooks for its sandbox's end; OWN gives it a SIGTERM handler as well."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from watchdog_lambda import sandbox_shutdown_hook

if TYPE_CHECKING:
    from types import FrameType

OWN = os.environ.get("OWN")


def say(line: str) -> None:
    """Print with one write, because hooks and the handler run at the same time."""
    os.write(1, f"{line}\n".encode())


@sandbox_shutdown_hook
def close_pool() -> None:
    """Stand for a hook that is registered first and runs last."""
    say("hook: close_pool")


@sandbox_shutdown_hook
def fail() -> None:
    """Raise; the other hooks must run all the same."""
    say("hook: fail")
    raise RuntimeError("the event: secret")


if os.environ.get("HANG"):

    @sandbox_shutdown_hook
    def hang() -> None:
        """Hang for longer than the hook's share of the time."""
        say("hook: hang")
        time.sleep(60)


def own(signum: int, frame: FrameType | None) -> None:
    """Stand for the SIGTERM handler that the user has installed before."""
    say(f"own handler: {signal.Signals(signum).name}")
    if OWN == "exit":
        raise SystemExit(0)


if OWN:
    signal.signal(signal.SIGTERM, own)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer, sleep, or have a child process terminated."""
    if event["do"] == "sleep":
        say("busy")
        time.sleep(60)
    if event["do"] == "terminate a child":
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        time.sleep(0.1)
        child.terminate()
        child.join(5)
        return {"exit code": child.exitcode}
    return {"pid": os.getpid()}
