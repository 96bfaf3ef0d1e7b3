"""Clients of HTTP APIs, with retries and without."""

from __future__ import annotations

import http.client
import json
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any

from watchdog_lambda import remaining_time

from . import At, case, entering

if TYPE_CHECKING:
    from collections.abc import Callable

add = entering("http")


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


@case("requests, with the time that is left", "http")
def _(at: At) -> Any:
    import requests

    session = requests.Session()

    def ask(n: int) -> int:
        # Before the watchdog fires: the client then knows of its own timeout.
        left = remaining_time() - 1.0
        return _number(session.get(at.of(n), timeout=min(10.0, left)).json())

    return ask


@case("requests, streaming", "http")
def _(at: At) -> Any:
    import requests

    session = requests.Session()

    def ask(n: int) -> int:
        with session.get(at.of(n), stream=True) as response:
            return _number(json.loads(b"".join(response.iter_content(8))))

    return ask


@case("requests with Retry", "http")
def _(at: At) -> Any:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(3, backoff_factor=0.1)))
    return _getting(session.get, at)


@case("requests, in a global pool of threads", "http")
def _(at: At) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    import requests

    session, pool = requests.Session(), ThreadPoolExecutor(2)
    return lambda n: _number(pool.submit(session.get, at.of(n)).result().json())


add("httpx", "httpx", lambda it, at: _getting(it.Client(timeout=60).get, at))


@case("httpx, with retries", "http")
def _(at: At) -> Any:
    import httpx

    client = httpx.Client(timeout=60, transport=httpx.HTTPTransport(retries=3))
    return lambda n: _number(client.post(at.url(), json={"text": f"n-{n}"}).json())


@case("urllib.request", "http")
def _(at: At) -> Any:
    def ask(n: int) -> int:
        with urllib.request.urlopen(at.of(n)) as response:
            return _number(json.load(response))

    return ask


add("http.client", "http.client", lambda _it, at: lambda n: _get(at, n))


@case("http.client, one connection for good", "http")
def _(at: At) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", at.port("http"))

    def ask(n: int) -> int:
        connection.request("GET", f"/n-{n}")
        return _number(json.load(connection.getresponse()))

    return ask


def _retried(retry: Callable[[Any], Any], at: At) -> Callable[[int], int]:
    get = retry(_get)
    return lambda n: get(at, n)


def _again(it: Any) -> Any:
    return it.on_exception(it.expo, Exception, max_tries=4)


add("backoff", "backoff", lambda it, at: _retried(_again(it), at))
add("tenacity", "tenacity", lambda it, at: _retried(it.retry(stop=it.stop_after_attempt(4)), at))


@case("tenacity, by a with", "http")
def _(at: At) -> Any:
    import tenacity

    def ask(n: int) -> int:
        for attempt in tenacity.Retrying(stop=tenacity.stop_after_attempt(4)):
            with attempt:
                return _get(at, n)
        return -1

    return ask


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
