"""Places orders one by one; out of time, it leaves no lock, no half order, no caller waiting."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from watchdog_lambda import remaining_time, scoped_hook, shield, shutdown_hook, watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog_lambda import TimeoutDetails

TIME_FOR_AN_ORDER = 0.9  # seconds; if less is left, no further order is begun

logger = Logger(service="orders")

# These simulate tables in a database.
locks: set[str] = set()
charged: list[str] = []
shipped: list[str] = []

# A deque: the hook empties it on its own thread while the handler may still append.
telemetry: collections.deque[dict[str, object]] = collections.deque()


# ---- what happens when the time is up, in this order ------------------------------------------


@shutdown_hook(before=1.0)
def warn(details: TimeoutDetails) -> None:
    """Runs a second before the hard deadline, while the handler may still finish."""
    logger.warning("running late, in %s", details.location)


def release(order: str) -> None:
    """Simulates a conditional write: it does nothing if the lock is no longer ours."""
    locks.discard(order)
    logger.info("lock of %s released", order)


@shutdown_hook
def flush(details: TimeoutDetails | None = None) -> None:
    """Runs as a hook; the handler also calls it at its end."""
    count = len(telemetry)
    for _ in range(count):
        telemetry.popleft()  # simulates an upload
    logger.info("%d records flushed", count, extra={"is_timeout": details is not None})


def gateway_timeout(details: TimeoutDetails) -> dict[str, Any]:
    """Answers the caller, who would get an error otherwise."""
    body = {"message": "not all is placed; send it again", "request_id": details.request_id}
    return {"statusCode": 504, "body": json.dumps(body)}


# ---- the work ----------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(order: str) -> Iterator[None]:
    try:
        locks.add(order)
        # The `finally` covers every way out of this block. The hook covers the case without one: a
        # handler that is stuck in C code until Lambda kills it.
        with scoped_hook(release, order):
            yield
    finally:
        locks.discard(order)


def price(seconds: float) -> None:
    time.sleep(seconds)  # simulates a slow call


def commit(order: str, seconds: float) -> None:
    """Charge and ship. The shield around this call ensures that neither happens alone."""
    # Remove the lock in one step. A KeyError means that the hook has released it: we are too late.
    locks.remove(order)
    charged.append(order)
    time.sleep(seconds)
    shipped.append(order)


@watch(fallback=gateway_timeout)
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Place the orders of the event. The event also says how long each step takes."""
    orders = list(event.get("orders", ()))
    placed: list[str] = []
    while orders and remaining_time() > TIME_FOR_AN_ORDER:
        order = orders.pop(0)
        with lock(order):
            price(event.get("price_seconds", 0))
            with shield():
                commit(order, event.get("commit_seconds", 0))
        placed.append(order)
        telemetry.append({"order": order})
    flush()
    return {
        # 206: there was too little time as well, but the handler noticed it between two orders.
        "statusCode": 206 if orders else 200,
        "placed": placed,
        "left": orders,
        "pid": os.getpid(),
        "tables": {"locks": sorted(locks), "charged": charged, "shipped": shipped},
    }
