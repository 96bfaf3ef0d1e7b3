"""What runs on an event loop: handlers that are coroutines, and those that run one themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from . import MARK, At, case, entering

add = entering("http")


async def _get(client: Any, at: At, n: int) -> int:
    return int((await client.get(at.of(n))).json()["n"])


def _getting(it: Any, at: At) -> Callable[[int], Any]:
    return partial(_get, it.AsyncClient(timeout=60), at)


@case("httpx, async", "http", "httpx", _getting)
async def _(get: Any, n: int) -> int:
    return int(await get(n))


@case("aiohttp", "http", "aiohttp", lambda it, at: (it.ClientSession(), at))
async def _(made: Any, n: int) -> int:
    session, at = made
    async with session.get(at.of(n)) as response:
        return int((await response.json())["n"])


def _openai(it: Any, at: At) -> Any:
    return it.AsyncOpenAI(api_key="x", base_url=at.url())


def _anthropic(it: Any, at: At) -> Any:
    return it.AsyncAnthropic(api_key="x", base_url=at.url())


@case("Anthropic, async", "http", "anthropic", _anthropic)
@case("OpenAI, async", "http", "openai", _openai)  # which is entered first
async def _(client: Any, n: int) -> int:
    return int((await client.models.retrieve(f"n-{n}")).id)


@case(
    "redis, async",
    "redis",
    "redis.asyncio",
    lambda it, at: it.Redis(port=at.port("redis")),
    hang=lambda client: client.blpop([MARK], 60),
)
async def _(client: Any, n: int) -> int:
    return int(await client.execute_command("ECHO", str(n)))


@case("websockets, async", "websocket", "websockets.asyncio.client")
async def _(made: Any, n: int) -> int:
    it, at = made
    async with it.connect(at.url("websocket", "ws"), close_timeout=1.0) as client:
        await client.send(str(n))
        return int(await client.recv())


@case("asyncio's streams", "smtp")
async def _(at: Any, n: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port("smtp"))
    try:
        await reader.readline()
        writer.write(f"vrfy {n}\r\n".encode())
        return int((await reader.readline())[4:])
    finally:
        writer.close()


@case("asyncio.gather, of httpx", "http", "httpx", _getting)
async def _(get: Any, n: int) -> int:
    # What is asked several times at once is one request that counts, and the others.
    return int((await asyncio.gather(get(n)))[0])


@case("asyncio.TaskGroup, of httpx", "http", "httpx", _getting)
async def _(get: Any, n: int) -> int:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(get(n))
    return int(task.result())


@case("asyncio.to_thread, of requests", "http", "requests", lambda it, at: (it.Session(), at))
async def _(made: Any, n: int) -> int:
    session, at = made
    return int((await asyncio.to_thread(session.get, at.of(n))).json()["n"])


def _in_a_handler(run: Callable[..., Any], at: At) -> Any:
    import httpx

    async def get(n: int) -> int:
        async with httpx.AsyncClient(timeout=60) as client:
            return await _get(client, at, n)

    return lambda n: run(get, n)


def _in_a_loop(it: Any, at: At) -> Any:
    loop, get = asyncio.new_event_loop(), _getting(it, at)
    return lambda n: loop.run_until_complete(get(n))


def _of_a_coroutine(it: Any, at: At) -> Any:
    return _in_a_handler(lambda get, n: it.run(get(n)), at)


add("asyncio.run in a handler", "asyncio", _of_a_coroutine)
add("a global loop in a handler", "httpx", _in_a_loop)
add("uvloop in a handler", "uvloop", _of_a_coroutine)
add("trio in a handler", "trio", lambda it, at: _in_a_handler(it.run, at))
