"""Caches and documents."""

from __future__ import annotations

from typing import Any

from . import KEY, MARK, At, case, entering


def _echo(client: Any) -> Any:
    return lambda n: int(client.echo(str(n)))


def _echo_and_pop(client: Any) -> Any:
    return _echo(client), lambda: client.blpop([MARK], 60)


def _pipeline(client: Any) -> Any:
    return lambda n: int(client.pipeline().set(KEY, n).get(KEY).execute()[1])


add = entering("redis")
add("redis", "redis", lambda it, at: _echo_and_pop(it.Redis(port=at.port("redis"))))
add("redis, no answer", "redis", lambda it, at: _echo(it.Redis(port=at.port("redis"))))
add("redis, a pipeline", "redis", lambda it, at: _pipeline(it.Redis(port=at.port("redis"))))


@case("redis, a lock", "redis", "redis", lambda it, at: it.Redis(port=at.port("redis")))
def _(client: Any, n: int) -> int:
    with client.lock(f"lock-{n}", timeout=2.0):
        return int(client.echo(str(n)))


def _subscribed(it: Any, at: At) -> Any:
    client = it.Redis(port=at.port("redis"))
    subscribed = client.pubsub()
    subscribed.subscribe(KEY)
    return client, subscribed


def _until(made: Any, n: int) -> int:
    # What was published by a call that was interrupted comes first.
    return next(n for each in made[1].listen() if each["data"] == str(n).encode())


@case("redis, subscribed", "redis", "redis", _subscribed, hang=lambda made: _until(made, -1))
def _(made: Any, n: int) -> int:
    made[0].publish(KEY, n)
    return _until(made, n)


add("valkey", "valkey", lambda it, at: _echo_and_pop(it.Valkey(port=at.port("redis"))))


def _set_and_get(client: Any) -> Any:
    def ask(n: int) -> int:
        client.set(KEY, str(n), noreply=False)
        return int(client.get(KEY) or -1)

    return ask


def _memcached(at: At) -> tuple[str, int]:
    return "127.0.0.1", at.port("memcached")


def _pooled(it: Any, at: At) -> Any:
    return _set_and_get(it.PooledClient(_memcached(at), max_pool_size=2))


def _found(it: Any, at: At) -> Any:
    client = it.MongoClient(at.url("mongo", "mongodb"))
    return lambda n: client.db.collection.find_one({"n": n})["n"]


def _commanded(it: Any, at: At) -> Any:
    client = it.MongoClient(at.url("mongo", "mongodb"), retryReads=False)
    return lambda n: client.db.command("echo", n)["n"]


add, base = entering("memcached"), "pymemcache.client.base"
add("pymemcache", base, lambda it, at: _set_and_get(it.Client(_memcached(at))))
add("pymemcache, a pool", base, _pooled)
add = entering("mongo")
add("pymongo", "pymongo", _found)
add("pymongo, a command", "pymongo", _commanded)
