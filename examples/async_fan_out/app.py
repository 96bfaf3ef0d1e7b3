"""Asks several services at once, and answers with those that replied in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from watchdog_lambda import watch

connections = 0


class Client:
    """Simulates a pool of connections: opened once, used by every invocation of the process."""

    def __init__(self) -> None:
        global connections  # noqa: PLW0603 - shows that the client is made once
        connections += 1
        self.limit = asyncio.Semaphore(10)

    async def get(self, service: str, seconds: float) -> str:
        """Ask one service, which takes its time."""
        async with self.limit:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                print(f"gave up on {service}")
                raise
        return service.upper()


client: Client | None = None


@watch
async def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Ask all of the event's services; its values say how long each takes."""
    global client  # noqa: PLW0603 - the loop is kept for the process, and so is the client that belongs to it
    client = client or Client()
    asked = {
        asyncio.create_task(client.get(service, seconds)): service
        for service, seconds in event["services"].items()
    }
    # When the time is up, the watchdog cancels this task. The answer has the replies received by
    # then; the tasks that are still running are cancelled at the handler's end.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait(asked)
    return {
        "answers": {asked[task]: task.result() for task in asked if task.done()},
        "missing": sorted(service for task, service in asked.items() if not task.done()),
        "connections": connections,
        "pid": os.getpid(),
    }
