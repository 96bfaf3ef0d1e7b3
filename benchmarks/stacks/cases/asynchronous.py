"""What runs on an event loop: handlers that are coroutines, and those that run one themselves."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from . import MARK, At, case, entering

if TYPE_CHECKING:
    from collections.abc import Callable


add, add_async = entering("http"), entering("http", is_async=True)


async def _get(client: Any, at: At, n: int) -> int:
    return int((await client.get(at.of(n))).json()["n"])


def _getting(it: Any, at: At) -> Callable[[int], Any]:
    return partial(_get, it.AsyncClient(timeout=60), at)


def _getting_anew(at: At) -> Callable[[int], Any]:
    import httpx

    async def get(n: int) -> int:
        async with httpx.AsyncClient(timeout=60) as client:
            return await _get(client, at, n)

    return get


def _models(client: Any) -> Callable[[int], Any]:
    async def ask(n: int) -> int:
        return int((await client.models.retrieve(f"n-{n}")).id)

    return ask


add_async("httpx, async", "httpx", _getting)


@case("aiohttp", "http")
async def _(at: At) -> Any:
    import aiohttp

    session = aiohttp.ClientSession()

    async def ask(n: int) -> int:
        async with session.get(at.of(n)) as response:
            return int((await response.json())["n"])

    return ask


def _openai(it: Any, at: At) -> Any:
    return _models(it.AsyncOpenAI(api_key="x", base_url=at.url()))


def _anthropic(it: Any, at: At) -> Any:
    return _models(it.AsyncAnthropic(api_key="x", base_url=at.url()))


add_async("OpenAI, async", "openai", _openai, needs="openai")
add_async("Anthropic, async", "anthropic", _anthropic, needs="anthropic")


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


def _gathered(it: Any, at: At) -> Any:
    get = _getting(it, at)

    async def ask(n: int) -> int:
        # What is asked several times at once is one request that counts, and the others.
        return int((await asyncio.gather(get(n)))[0])

    return ask


def _grouped(it: Any, at: At) -> Any:
    get = _getting(it, at)

    async def ask(n: int) -> int:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(get(n))
        return int(task.result())

    return ask


add_async("asyncio.gather, of httpx", "httpx", _gathered)
add_async("asyncio.TaskGroup, of httpx", "httpx", _grouped)


@case("asyncio.to_thread, of requests", "http")
async def _(at: At) -> Any:
    import requests

    session = requests.Session()

    async def ask(n: int) -> int:
        return int((await asyncio.to_thread(session.get, at.of(n))).json()["n"])

    return ask


def _in_a_handler(run: Callable[..., Any], at: At) -> Any:
    get = _getting_anew(at)
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
