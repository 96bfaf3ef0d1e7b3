"""HTTP clients and AWS's SDK, asking a server that accepts and never answers."""

from __future__ import annotations

import http.client
import urllib.request
from typing import TYPE_CHECKING

from benchmarks.limits.registry import Group

from .network import silent_server
from .threads import LONG

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

group = Group("HTTP clients and AWS's SDK")


def _silent_url() -> str:
    host, port = silent_server()
    return f"http://{host}:{port}/"


@group.call()
def http_client() -> Block:
    """`http.client`: `getresponse()`."""
    host, port = silent_server()
    connection = http.client.HTTPConnection(host, port)
    connection.request("GET", "/")
    return connection.getresponse


@group.call()
def urlopen() -> Block:
    """`urllib.request.urlopen()`."""
    url = _silent_url()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return lambda: opener.open(url)


@group.call(quick=True)
def urllib3_get() -> Block:
    """`urllib3`: GET."""
    import urllib3

    url, pool = _silent_url(), urllib3.PoolManager()
    return lambda: pool.request("GET", url)


@group.call()
def urllib3_get_timeout() -> Block:
    """`urllib3`: GET, `timeout=60`."""
    import urllib3

    url, pool = _silent_url(), urllib3.PoolManager()
    return lambda: pool.request("GET", url, timeout=LONG)


@group.call()
def urllib3_get_no_retry() -> Block:
    """`urllib3`: GET, `retries=False`."""
    import urllib3

    url, pool = _silent_url(), urllib3.PoolManager()
    return lambda: pool.request("GET", url, retries=False)


@group.call()
def requests_get() -> Block:
    """`requests.get()`."""
    import requests

    url, session = _silent_url(), requests.Session()
    session.trust_env = False  # no proxy
    return lambda: session.get(url)  # the handler's mistake is the point


@group.call()
def requests_get_timeout() -> Block:
    """`requests.get(..., timeout=60)`."""
    import requests

    url, session = _silent_url(), requests.Session()
    session.trust_env = False
    return lambda: session.get(url, timeout=LONG)


@group.call()
def boto3_call() -> Block:
    """`boto3`: DynamoDB `list_tables()`."""
    import boto3

    client = boto3.client(
        "dynamodb",
        endpoint_url=_silent_url(),
        region_name="eu-west-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",  # noqa: S106 - nobody's
    )
    block: Block = client.list_tables
    return block
