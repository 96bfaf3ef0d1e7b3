"""A handler whose caller gives up before Lambda does; its fallback answers the caller's request."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from watchdog_lambda import shutdown_hook, watch

if TYPE_CHECKING:
    from watchdog_lambda import TimeoutDetails


@shutdown_hook
async def flush(_details: TimeoutDetails) -> None:
    """Stand for a hook that sends data by an async client."""
    await asyncio.sleep(0.01)


def too_late(details: TimeoutDetails, event: dict[str, Any]) -> dict[str, Any]:
    """Return an answer in the caller's format, which names the request."""
    if event.get("fail"):
        raise KeyError(event["path"])
    return {"statusCode": 504, "path": event["path"], "after": round(details.elapsed, 1)}


@watch(fallback=too_late)
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    time.sleep(event.get("sleep", 0))
    return {"statusCode": 200}
