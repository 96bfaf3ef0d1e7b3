"""A FastAPI application behind Mangum whose callers get a 504 when the time is up."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from mangum import Mangum

from watchdog_lambda import remaining_time, watch

if TYPE_CHECKING:
    from watchdog_lambda import TimeoutDetails

app = FastAPI()


@app.exception_handler(TimeoutError)
async def out_of_time(request: Request, error: TimeoutError) -> JSONResponse:
    """Answers if the interrupt lands in a route that computes or blocks the loop."""
    return JSONResponse({"detail": str(error) or "out of time"}, status_code=504)


def gateway_timeout(details: TimeoutDetails) -> dict[str, Any]:
    """Answers for the whole application: a route that waits is cancelled, and cannot answer."""
    body = {"detail": "out of time", "request_id": details.request_id}
    return {
        "statusCode": 504,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


@app.get("/")
async def root() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.get("/await/{seconds}")
async def wait(seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)  # simulates a slow call
    finally:
        print("connection closed", flush=True)


@app.get("/block/{seconds}")
async def block(seconds: float) -> None:
    """Blocks the loop, as a synchronous client does."""
    try:
        time.sleep(seconds)  # noqa: ASYNC251 - that is the point
    finally:
        print("connection closed", flush=True)


@app.get("/thread/{seconds}")
def thread(seconds: float) -> None:
    """Not a coroutine function, so Starlette runs it on a thread, which cannot be stopped."""
    time.sleep(seconds)


@app.get("/bounded/{seconds}")
async def bounded(seconds: float) -> None:
    """Gives up by itself, half a second before the interrupt."""
    async with asyncio.timeout(remaining_time() * 0.75 - 0.5):
        await asyncio.sleep(seconds)


handler = watch(fallback=gateway_timeout)(Mangum(app, lifespan="off"))
