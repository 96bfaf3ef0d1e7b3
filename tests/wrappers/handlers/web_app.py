"""A FastAPI application wrapped by Mangum."""

from __future__ import annotations

import asyncio
import os
import time

from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()
handler = Mangum(app, lifespan="off")
calls = 0


@app.get("/ok")
async def ok() -> dict[str, int]:
    """Answer at once."""
    global calls  # noqa: PLW0603
    calls += 1
    return {"call": calls, "pid": os.getpid()}


@app.get("/await")
async def wait() -> None:
    """Wait in the loop."""
    try:
        await asyncio.sleep(60)
    finally:
        print("handler: finally", flush=True)


@app.get("/block")
async def block() -> None:
    """Block the loop."""
    try:
        time.sleep(60)  # noqa: ASYNC251
    finally:
        print("handler: finally", flush=True)


@app.get("/thread")
def thread() -> None:
    """Block on a thread of Starlette's pool, because this is no coroutine function."""
    try:
        time.sleep(4)
    finally:
        print("handler: finally", flush=True)
