"""Clients of HTTP APIs, with retries and without."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from watchdog_lambda import remaining_time

from . import At, case, entering

add = entering("http")


def _session(requests: Any, at: At) -> tuple[Any, At]:
    return requests.Session(), at


def _number(answer: Any) -> int:
    return int(answer["n"])


def _get(at: At, n: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", at.port("http"))
    connection.request("GET", f"/n-{n}")
    return _number(json.load(connection.getresponse()))


def _getting(get: Callable[[str], Any], at: At) -> Callable[[int], int]:
    return lambda n: _number(get(at.of(n)).json())


add("urllib3", "urllib3", lambda it, at: _getting(partial(it.PoolManager().request, "GET"), at))
add("requests", "requests", lambda it, at: _getting(it.Session().get, at))


@case("requests, with the time that is left", "http", "requests", _session)
def _(made: Any, n: int) -> int:
    session, at = made
    # Before the watchdog fires: the client then knows of its own timeout.
    left = remaining_time() - 1.0
    return _number(session.get(at.of(n), timeout=min(10.0, left)).json())


@case("requests, streaming", "http", "requests", _session)
def _(made: Any, n: int) -> int:
    session, at = made
    with session.get(at.of(n), stream=True) as response:
        return _number(json.loads(b"".join(response.iter_content(8))))


def _retrying(it: Any, at: At) -> Any:
    from urllib3.util import Retry

    session = it.Session()
    session.mount("http://", it.adapters.HTTPAdapter(max_retries=Retry(3, backoff_factor=0.1)))
    return _getting(session.get, at)


def _pooled(it: Any, at: At) -> Any:
    session, pool = it.Session(), ThreadPoolExecutor(2)
    return lambda n: _number(pool.submit(session.get, at.of(n)).result().json())


def _posting(it: Any, at: At) -> Any:
    client = it.Client(timeout=60, transport=it.HTTPTransport(retries=3))
    return lambda n: _number(client.post(at.url(), json={"text": f"n-{n}"}).json())


add("requests with Retry", "requests", _retrying)
add("requests, in a global pool of threads", "requests", _pooled)
add("httpx", "httpx", lambda it, at: _getting(it.Client(timeout=60).get, at))
add("httpx, with retries", "httpx", _posting)


@case("urllib.request", "http")
def _(at: Any, n: int) -> int:
    with urllib.request.urlopen(at.of(n)) as response:
        return _number(json.load(response))


add("http.client", "http.client", lambda _it, at: lambda n: _get(at, n))


def _connected(it: Any, at: At) -> Any:
    return it.HTTPConnection("127.0.0.1", at.port("http"))


@case("http.client, one connection for good", "http", "http.client", _connected)
def _(connection: Any, n: int) -> int:
    connection.request("GET", f"/n-{n}")
    return _number(json.load(connection.getresponse()))


def _retried(retry: Callable[[Any], Any], at: At) -> Callable[[int], int]:
    get = retry(_get)
    return lambda n: get(at, n)


def _again(it: Any) -> Any:
    return it.on_exception(it.expo, Exception, max_tries=4)


add("backoff", "backoff", lambda it, at: _retried(_again(it), at))
add("tenacity", "tenacity", lambda it, at: _retried(it.retry(stop=it.stop_after_attempt(4)), at))


@case("tenacity, by a with", "http", "tenacity")
def _(made: Any, n: int) -> int:
    tenacity, at = made
    for attempt in tenacity.Retrying(stop=tenacity.stop_after_attempt(4)):
        with attempt:
            return _get(at, n)
    return -1


def _models(client: Any) -> Any:
    return lambda n: int(client.models.retrieve(f"n-{n}").id)


def _chat(client: Any) -> Any:
    def ask(n: int) -> int:
        said: Any = [{"role": "user", "content": f"n-{n}"}]
        answer = client.chat.completions.create(model="x", messages=said)
        return int(answer.choices[0].message.content or -1)

    return ask


def _documents(client: Any) -> Any:
    return lambda n: _number(client.get(index="index", id=f"n-{n}")["_source"])


def _elasticsearch(it: Any, at: At) -> Any:
    return _documents(it.Elasticsearch(at.url(), retry_on_timeout=True, request_timeout=60))


def _opensearch(it: Any, at: At) -> Any:
    return _documents(it.OpenSearch(at.url(), retry_on_timeout=True, timeout=60))


add("stamina", "stamina", lambda it, at: _retried(it.retry(on=Exception, attempts=4), at))
add("OpenAI", "openai", lambda it, at: _models(it.OpenAI(api_key="x", base_url=at.url())))
add("OpenAI, a chat", "openai", lambda it, at: _chat(it.OpenAI(api_key="x", base_url=at.url())))
add("Anthropic", "anthropic", lambda it, at: _models(it.Anthropic(api_key="x", base_url=at.url())))
add("Elasticsearch", "elasticsearch", _elasticsearch)
add("OpenSearch", "opensearchpy", _opensearch)
