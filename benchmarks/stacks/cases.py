"""The clients, one by one: a call that hangs, and one that must work afterwards.

A case is a function that makes a client and returns the two calls. It runs in a process of its own,
in an environment that has the libraries.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], Any]
    Make = Callable[[int], tuple[Call, Call]]


class Case(NamedTuple):
    """One client."""

    make: Make
    server: str
    """``http`` is a stand-in that counts requests, ``silent`` none at all."""


CASES: Final[dict[str, Case]] = {}


def case(name: str, server: str = "http") -> Callable[[Make], Make]:
    """Enter a case under its name in the table."""

    def enter(make: Make) -> Make:
        CASES[name] = Case(make, server)
        return make

    return enter


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


@case("urllib3")
def _urllib3(port: int) -> tuple[Call, Call]:
    import urllib3

    pool = urllib3.PoolManager()
    return (lambda: pool.request("GET", _url(port)), lambda: pool.request("GET", _url(port)).status)


@case("requests")
def _requests(port: int) -> tuple[Call, Call]:
    import requests

    session = requests.Session()
    return (lambda: session.get(_url(port)), lambda: session.get(_url(port)).ok)


@case("requests with Retry")
def _requests_retry(port: int) -> tuple[Call, Call]:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(3, backoff_factor=0.1)))
    return (lambda: session.get(_url(port)), lambda: session.get(_url(port)).ok)


@case("httpx")
def _httpx(port: int) -> tuple[Call, Call]:
    import httpx

    client = httpx.Client(timeout=60)
    return (lambda: client.get(_url(port)), lambda: client.get(_url(port)).is_success)


@case("boto3, DynamoDB")
def _dynamodb(port: int) -> tuple[Call, Call]:
    client = _boto3("dynamodb", port)
    return (client.list_tables, lambda: "TableNames" in client.list_tables())


@case("boto3, an S3 download")
def _s3(port: int) -> tuple[Call, Call]:
    client = _boto3("s3", port)
    return (
        lambda: client.download_file("bucket", "key", "/dev/null"),
        lambda: client.head_bucket(Bucket="bucket"),
    )


def _boto3(service: str, port: int) -> Any:
    import boto3

    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    return boto3.client(service, region_name="eu-west-1", endpoint_url=_url(port))


@case("OpenAI")
def _openai(port: int) -> tuple[Call, Call]:
    import openai

    client = openai.OpenAI(api_key="x", base_url=_url(port))
    return (client.models.list, lambda: client.models.list() is not None)


@case("Anthropic")
def _anthropic(port: int) -> tuple[Call, Call]:
    import anthropic

    client = anthropic.Anthropic(api_key="x", base_url=_url(port))
    return (client.models.list, lambda: client.models.list() is not None)


@case("Elasticsearch")
def _elasticsearch(port: int) -> tuple[Call, Call]:
    import elasticsearch

    client = elasticsearch.Elasticsearch(_url(port), retry_on_timeout=True, request_timeout=60)
    return (client.info, lambda: client.info()["version"])


def _get(port: int) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    return connection.getresponse().status


@case("http.client")
def _http_client(port: int) -> tuple[Call, Call]:
    return (lambda: _get(port), lambda: _get(port))


@case("backoff")
def _backoff(port: int) -> tuple[Call, Call]:
    import backoff

    get = backoff.on_exception(backoff.expo, Exception, max_tries=4)(_get)
    return (lambda: get(port), lambda: get(port))


@case("tenacity")
def _tenacity(port: int) -> tuple[Call, Call]:
    import tenacity

    get = tenacity.retry(stop=tenacity.stop_after_attempt(4))(_get)
    return (lambda: get(port), lambda: get(port))


@case("tenacity, by a with")
def _tenacity_with(port: int) -> tuple[Call, Call]:
    import tenacity

    def get() -> Any:
        for attempt in tenacity.Retrying(stop=tenacity.stop_after_attempt(4)):
            with attempt:
                return _get(port)
        return None

    return (get, get)


@case("stamina")
def _stamina(port: int) -> tuple[Call, Call]:
    import stamina

    get = stamina.retry(on=Exception, attempts=4)(_get)
    return (lambda: get(port), lambda: get(port))


@case("redis", "redis")
def _redis(port: int) -> tuple[Call, Call]:
    import redis

    client = redis.Redis(port=port)
    return (lambda: client.blpop(["nothing"], 60), client.ping)


def _dsn(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=postgres dbname=postgres"


@case("psycopg 3", "postgresql")
def _psycopg(port: int) -> tuple[Call, Call]:
    import psycopg

    connection = psycopg.connect(_dsn(port), autocommit=True)
    return (
        lambda: connection.execute("select pg_sleep(60)"),
        lambda: connection.execute("select 1").fetchone(),
    )


@case("psycopg 3, its pool", "postgresql")
def _psycopg_pool(port: int) -> tuple[Call, Call]:
    import psycopg_pool

    pool = psycopg_pool.ConnectionPool(_dsn(port), open=True, min_size=1, max_size=1)

    def query(statement: str) -> Any:
        with pool.connection() as connection:
            return connection.execute(statement).fetchone()

    return (lambda: query("select pg_sleep(60)"), lambda: query("select 1"))


@case("psycopg2, a query cancelled by a hook", "postgresql")
def _psycopg2_cancelled(port: int) -> tuple[Call, Call]:
    import psycopg2

    from watchdog_lambda import scoped_hook, shield

    connection = psycopg2.connect(_dsn(port))
    connection.autocommit = True

    def query(statement: str) -> Any:
        with scoped_hook(connection.cancel), shield(), connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    return (lambda: query("select pg_sleep(60)"), lambda: query("select 1"))


@case("SQLAlchemy with psycopg2", "postgresql")
def _sqlalchemy(port: int) -> tuple[Call, Call]:
    import sqlalchemy

    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres")

    def query(statement: str) -> Any:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text(statement)).fetchone()

    return (lambda: query("select pg_sleep(60)"), lambda: query("select 1"))


@case("psycopg2, a bare connection", "postgresql")
def _psycopg2(port: int) -> tuple[Call, Call]:
    import psycopg2

    connection = psycopg2.connect(_dsn(port))
    connection.autocommit = True

    def query(statement: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    return (lambda: query("select pg_sleep(60)"), lambda: query("select 1"))


@case("grpcio", "silent")
def _grpcio(port: int) -> tuple[Call, Call]:
    import grpc

    call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/service/method")
    return (lambda: call(b"", wait_for_ready=True), lambda: True)


@case("os.system", "silent")
def _system(_port: int) -> tuple[Call, Call]:
    return (lambda: os.system("sleep 60"), lambda: os.system("true") == 0)  # noqa: S605


@case("sqlite3, a query cancelled by a hook", "silent")
def _sqlite3(_port: int) -> tuple[Call, Call]:
    import sqlite3

    from watchdog_lambda import scoped_hook, shield

    connection = sqlite3.connect(":memory:", check_same_thread=False)
    slow = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"

    def query(statement: str) -> Any:
        with scoped_hook(connection.interrupt), shield():
            return connection.execute(statement).fetchone()

    return (lambda: query(slow), lambda: query("select 1"))
