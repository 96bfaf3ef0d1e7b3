"""The handler whose timeout the picture shows: it works, is interrupted, cleans up and answers."""

from __future__ import annotations

import time
from typing import Any

from watchdog_lambda import shutdown_hook

HOOK_SECONDS = 0.6
CLEANUP_SECONDS = 0.9


@shutdown_hook
def flush(_details: object) -> None:
    """Send what there is, as far as there is a place to send it to."""
    time.sleep(HOOK_SECONDS)


def handler(_event: Any, _context: Any) -> dict[str, Any]:
    try:
        time.sleep(900.0)
    except TimeoutError:
        time.sleep(CLEANUP_SECONDS)
        return {"statusCode": 504}
    return {"statusCode": 200}
