"""What runs on an event loop: handlers that are coroutines, and those that run one themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from . import MARK, At, case

if TYPE_CHECKING:
    from collections.abc import Callable


def _getting(at: At) -> Callable[[int], Any]:
    import httpx

    client = httpx.AsyncClient(timeout=60)

    async def get(n: int) -> int:
        return int((await client.get(at.of(n))).json()["n"])

    return get


def _getting_anew(at: At) -> Callable[[int], Any]:
    import httpx

    async def get(n: int) -> int:
        async with httpx.AsyncClient(timeout=60) as client:
            return int((await client.get(at.of(n))).json()["n"])

    return get


def _models(client: Any) -> Callable[[int], Any]:
    async def ask(n: int) -> int:
        return int((await client.models.retrieve(f"n-{n}")).id)

    return ask


@case("httpx, async", "http")
async def _(at: At) -> Any:
    return _getting(at)


@case("aiohttp", "http")
async def _(at: At) -> Any:
    import aiohttp

    session = aiohttp.ClientSession()

    async def ask(n: int) -> int:
        async with session.get(at.of(n)) as response:
            return int((await response.json())["n"])

    return ask


@case("OpenAI, async", "http", "openai")
async def _(at: At) -> Any:
    import openai

    return _models(openai.AsyncOpenAI(api_key="x", base_url=at.url()))


@case("Anthropic, async", "http", "anthropic")
async def _(at: At) -> Any:
    import anthropic

    return _models(anthropic.AsyncAnthropic(api_key="x", base_url=at.url()))


@case("redis, async", "redis")
async def _(at: At) -> Any:
    import redis.asyncio

    client = redis.asyncio.Redis(port=at.port("redis"))

    async def ask(n: int) -> int:
        return int(await client.execute_command("ECHO", str(n)))

    return ask, lambda: client.blpop([MARK], 60)


@case("websockets, async", "websocket")
async def _(at: At) -> Any:
    from websockets.asyncio.client import connect

    async def ask(n: int) -> int:
        async with connect(at.url("websocket", "ws"), close_timeout=1.0) as client:
            await client.send(str(n))
            return int(await client.recv())

    return ask


@case("asyncio's streams", "smtp")
async def _(at: At) -> Any:
    async def ask(n: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port("smtp"))
        try:
            await reader.readline()
            writer.write(f"vrfy {n}\r\n".encode())
            return int((await reader.readline())[4:])
        finally:
            writer.close()

    return ask


@case("asyncio.gather, of httpx", "http")
async def _(at: At) -> Any:
    get = _getting(at)

    async def ask(n: int) -> int:
        # What is asked several times at once is one request that counts, and the others.
        found = await asyncio.gather(*(get(n) for _ in range(1)))
        return int(found[0])

    return ask


@case("asyncio.TaskGroup, of httpx", "http")
async def _(at: At) -> Any:
    get = _getting(at)

    async def ask(n: int) -> int:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(get(n))
        return int(task.result())

    return ask


@case("asyncio.to_thread, of requests", "http")
async def _(at: At) -> Any:
    import requests

    session = requests.Session()

    async def ask(n: int) -> int:
        return int((await asyncio.to_thread(session.get, at.of(n))).json()["n"])

    return ask


@case("asyncio.run in a handler", "http")
def _(at: At) -> Any:
    get = _getting_anew(at)
    return lambda n: asyncio.run(get(n))


@case("a global loop in a handler", "http")
def _(at: At) -> Any:
    loop, get = asyncio.new_event_loop(), _getting(at)
    return lambda n: loop.run_until_complete(get(n))


@case("uvloop in a handler", "http")
def _(at: At) -> Any:
    import uvloop

    get = _getting_anew(at)
    return lambda n: uvloop.run(get(n))


@case("trio in a handler", "http")
def _(at: At) -> Any:
    import trio

    get = _getting_anew(at)
    return lambda n: trio.run(get, n)
