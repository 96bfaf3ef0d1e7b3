"""What stands between Lambda and the code: web frameworks and their adapters."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from . import At, making


def _event(path: str) -> dict[str, Any]:
    """One of API Gateway's."""
    http = {"method": "GET", "path": path, "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"}
    context = {"http": http, "stage": "$default", "requestId": "1", "domainName": "x"}
    request = {"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": ""}
    headers = {"host": "x", "accept": "*/*"}
    return {**request, "headers": headers, "requestContext": context, "isBase64Encoded": False}


class _Context:
    """What is read of Lambda's."""

    aws_request_id = function_name = "x"
    memory_limit_in_mb = 128
    invoked_function_arn = "x"


def _by_adapter(adapter: Any) -> tuple[Any, Any]:
    def call(path: str) -> int:
        answer = adapter(_event(path), _Context())
        if answer["statusCode"] != 200:
            raise ValueError(answer)
        return int(json.loads(answer["body"])["n"])

    return lambda n: call(f"/echo/{n}"), lambda: call("/slow/1")


def _routed(app: Any, echo: Any, slow: Any, n: str = "{n}") -> Any:
    app.get(f"/echo/{n}")(echo)
    app.get(f"/slow/{n}")(slow)
    return app


def _getting(at: At) -> Any:
    """A route of a plain function."""
    import requests

    session = requests.Session()

    def echo(n: int) -> dict[str, int]:
        return {"n": int(session.get(at.of(n)).json()["n"])}

    return echo


def _sleeping(seconds: float) -> Any:
    def slow(n: int) -> dict[str, int]:
        time.sleep(seconds)
        return {"n": int(n)}

    return slow


@making("FastAPI with Mangum", "http", "fastapi")
def _(fastapi: Any, at: At) -> Any:
    import httpx
    import mangum

    client = httpx.AsyncClient(timeout=60)

    async def echo(n: int) -> dict[str, int]:
        return {"n": int((await client.get(at.of(n))).json()["n"])}

    async def slow(n: int) -> dict[str, int]:
        await asyncio.sleep(60)
        return {"n": n}

    return _by_adapter(mangum.Mangum(_routed(fastapi.FastAPI(), echo, slow), lifespan="off"))


@making("FastAPI with Mangum, a plain function", "http", "fastapi")
def _(fastapi: Any, at: At) -> Any:
    import mangum

    app = _routed(fastapi.FastAPI(), _getting(at), _sleeping(10))
    return _by_adapter(mangum.Mangum(app, lifespan="off"))


@making("Flask", "http", "flask")
def _(flask: Any, at: At) -> Any:
    app = _routed(flask.Flask("stacks"), _getting(at), _sleeping(60), "<int:n>")
    client = app.test_client()
    return lambda n: client.get(f"/echo/{n}").json["n"], lambda: client.get("/slow/1").json["n"]


@making("Django with Mangum")
def _(_library: Any, _at: At) -> Any:
    import django
    import mangum
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import JsonResponse
    from django.urls import path

    def echo(_request: Any, n: int) -> Any:
        return JsonResponse({"n": n})

    def slow(_request: Any, n: int) -> Any:
        time.sleep(10)
        return JsonResponse({"n": n})

    patterns = [path("echo/<int:n>", echo), path("slow/<int:n>", slow)]
    urls = type("Urls", (), {"urlpatterns": patterns})
    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    django.setup()
    return _by_adapter(mangum.Mangum(get_asgi_application(), lifespan="off"))


@making("Powertools, a resolver", "http", "aws_lambda_powertools.event_handler")
def _(it: Any, at: At) -> Any:
    app = _routed(it.APIGatewayHttpResolver(), _getting(at), _sleeping(60), "<n>")
    return _by_adapter(app.resolve)


@making("Powertools, a batch", "http")
def _(_library: Any, at: At) -> Any:
    import requests
    from aws_lambda_powertools.utilities.batch import EventType, process_partial_response

    from watchdog_lambda.batch import BatchProcessor

    session = requests.Session()

    def record(record: Any) -> int:
        return int(session.get(at.url(path=f"/n-{record.body}")).json()["n"])

    def ask(n: int) -> int:
        records = [{"messageId": str(n), "body": str(n), "eventSource": "aws:sqs"}]
        processor = BatchProcessor(event_type=EventType.SQS)
        answer = process_partial_response({"Records": records}, record, processor)
        return n if not answer["batchItemFailures"] else -1

    return ask
