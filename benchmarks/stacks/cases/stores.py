"""Caches and documents."""

from __future__ import annotations

import os
from typing import Any

from . import MARK, At, case

KEY = f"key-{os.getpid()}"
"""For this function alone."""


@case("redis", "redis")
def _(at: At) -> Any:
    import redis

    client = redis.Redis(port=at.port("redis"))
    return lambda n: int(client.echo(str(n))), lambda: client.blpop([MARK], 60)


@case("redis, no answer", "redis")
def _(at: At) -> Any:
    import redis

    client = redis.Redis(port=at.port("redis"))
    return lambda n: int(client.echo(str(n)))


@case("redis, a pipeline", "redis")
def _(at: At) -> Any:
    import redis

    client = redis.Redis(port=at.port("redis"))
    return lambda n: int(client.pipeline().set(KEY, n).get(KEY).execute()[1])


@case("redis, a lock", "redis")
def _(at: At) -> Any:
    import redis

    client = redis.Redis(port=at.port("redis"))

    def ask(n: int) -> int:
        with client.lock(f"lock-{n}", timeout=2.0):
            return int(client.echo(str(n)))

    return ask


@case("redis, subscribed", "redis")
def _(at: At) -> Any:
    import redis

    client = redis.Redis(port=at.port("redis"))
    subscribed = client.pubsub()
    subscribed.subscribe(KEY)

    def ask(n: int) -> int:
        client.publish(KEY, n)
        return _until(n, (message["data"] for message in subscribed.listen()))

    def _until(n: int, said: Any) -> int:
        # What was published by a call that was interrupted comes first.
        return next(n for each in said if each == str(n).encode())

    return ask, lambda: _until(-1, (message["data"] for message in subscribed.listen()))


@case("valkey", "redis")
def _(at: At) -> Any:
    import valkey

    client = valkey.Valkey(port=at.port("redis"))
    return lambda n: int(client.echo(str(n))), lambda: client.blpop([MARK], 60)


@case("pymemcache", "memcached")
def _(at: At) -> Any:
    from pymemcache.client.base import Client

    client = Client(("127.0.0.1", at.port("memcached")), default_noreply=False)

    def ask(n: int) -> int:
        client.set(KEY, str(n))
        return int(client.get(KEY) or -1)

    return ask


@case("pymemcache, a pool", "memcached")
def _(at: At) -> Any:
    from pymemcache.client.base import PooledClient

    client = PooledClient(("127.0.0.1", at.port("memcached")), max_pool_size=2)

    def ask(n: int) -> int:
        client.set(KEY, str(n), noreply=False)
        return int(client.get(KEY) or -1)

    return ask


@case("pymongo", "mongo")
def _(at: At) -> Any:
    import pymongo

    client: Any = pymongo.MongoClient(at.url("mongo", "mongodb"))
    return lambda n: client.db.collection.find_one({"n": n})["n"]


@case("pymongo, a command", "mongo")
def _(at: At) -> Any:
    import pymongo

    client: Any = pymongo.MongoClient(at.url("mongo", "mongodb"), retryReads=False)
    return lambda n: client.db.command("echo", n)["n"]
