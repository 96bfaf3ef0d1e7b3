"""Clients of HTTP APIs, with retries and without."""

from __future__ import annotations

import http.client
import json
import urllib.request
from typing import Any

from watchdog_lambda import remaining_time

from . import At, case


def _number(answer: Any) -> int:
    return int(answer["n"])


def _get(at: At, n: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", at.port("http"))
    connection.request("GET", f"/n-{n}")
    return _number(json.load(connection.getresponse()))


@case("urllib3", "http")
def _(at: At) -> Any:
    import urllib3

    pool = urllib3.PoolManager()
    return lambda n: _number(pool.request("GET", at.of(n)).json())


@case("requests", "http")
def _(at: At) -> Any:
    import requests

    session = requests.Session()
    return lambda n: _number(session.get(at.of(n)).json())


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
    return lambda n: _number(session.get(at.of(n)).json())


@case("requests, in a global pool of threads", "http")
def _(at: At) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    import requests

    session, pool = requests.Session(), ThreadPoolExecutor(2)
    return lambda n: _number(pool.submit(session.get, at.of(n)).result().json())


@case("httpx", "http")
def _(at: At) -> Any:
    import httpx

    client = httpx.Client(timeout=60)
    return lambda n: _number(client.get(at.of(n)).json())


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


@case("http.client", "http")
def _(at: At) -> Any:
    return lambda n: _get(at, n)


@case("http.client, one connection for good", "http")
def _(at: At) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", at.port("http"))

    def ask(n: int) -> int:
        connection.request("GET", f"/n-{n}")
        return _number(json.load(connection.getresponse()))

    return ask


@case("backoff", "http")
def _(at: At) -> Any:
    import backoff

    get = backoff.on_exception(backoff.expo, Exception, max_tries=4)(_get)
    return lambda n: get(at, n)


@case("tenacity", "http")
def _(at: At) -> Any:
    import tenacity

    get = tenacity.retry(stop=tenacity.stop_after_attempt(4))(_get)
    return lambda n: get(at, n)


@case("tenacity, by a with", "http")
def _(at: At) -> Any:
    import tenacity

    def ask(n: int) -> int:
        for attempt in tenacity.Retrying(stop=tenacity.stop_after_attempt(4)):
            with attempt:
                return _get(at, n)
        return -1

    return ask


@case("stamina", "http")
def _(at: At) -> Any:
    import stamina

    get = stamina.retry(on=Exception, attempts=4)(_get)
    return lambda n: get(at, n)


@case("OpenAI", "http")
def _(at: At) -> Any:
    import openai

    client = openai.OpenAI(api_key="x", base_url=at.url())
    return lambda n: int(client.models.retrieve(f"n-{n}").id)


@case("OpenAI, a chat", "http")
def _(at: At) -> Any:
    import openai

    client = openai.OpenAI(api_key="x", base_url=at.url())

    def ask(n: int) -> int:
        said: Any = [{"role": "user", "content": f"n-{n}"}]
        answer = client.chat.completions.create(model="x", messages=said)
        return int(answer.choices[0].message.content or -1)

    return ask


@case("Anthropic", "http")
def _(at: At) -> Any:
    import anthropic

    client = anthropic.Anthropic(api_key="x", base_url=at.url())
    return lambda n: int(client.models.retrieve(f"n-{n}").id)


@case("Elasticsearch", "http")
def _(at: At) -> Any:
    import elasticsearch

    client = elasticsearch.Elasticsearch(at.url(), retry_on_timeout=True, request_timeout=60)
    return lambda n: _number(client.get(index="index", id=f"n-{n}")["_source"])


@case("OpenSearch", "http")
def _(at: At) -> Any:
    import opensearchpy

    client = opensearchpy.OpenSearch(at.url(), retry_on_timeout=True, timeout=60)
    return lambda n: _number(client.get(index="index", id=f"n-{n}")["_source"])
