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


@making("FastAPI with Mangum", "http")
def _(_library: Any, at: At) -> Any:
    import fastapi
    import httpx
    import mangum

    app, client = fastapi.FastAPI(), httpx.AsyncClient(timeout=60)

    @app.get("/echo/{n}")
    async def _(n: int) -> dict[str, int]:
        return {"n": int((await client.get(at.of(n))).json()["n"])}

    @app.get("/slow/{n}")
    async def _(n: int) -> dict[str, int]:
        await asyncio.sleep(60)
        return {"n": n}

    return _by_adapter(mangum.Mangum(app, lifespan="off"))


@making("FastAPI with Mangum, a plain function", "http")
def _(_library: Any, at: At) -> Any:
    import fastapi
    import mangum
    import requests

    app, session = fastapi.FastAPI(), requests.Session()

    @app.get("/echo/{n}")
    def _(n: int) -> dict[str, int]:
        return {"n": int(session.get(at.of(n)).json()["n"])}

    @app.get("/slow/{n}")
    def _(n: int) -> dict[str, int]:
        time.sleep(10)
        return {"n": n}

    return _by_adapter(mangum.Mangum(app, lifespan="off"))


@making("Flask", "http")
def _(_library: Any, at: At) -> Any:
    import flask
    import requests

    app, session = flask.Flask("stacks"), requests.Session()

    @app.get("/echo/<int:n>")
    def echo(n: int) -> dict[str, int]:
        return {"n": int(session.get(at.of(n)).json()["n"])}

    @app.get("/slow")
    def slow() -> dict[str, int]:
        time.sleep(60)
        return {"n": 0}

    client = app.test_client()
    return lambda n: client.get(f"/echo/{n}").json["n"], lambda: client.get("/slow").json["n"]


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

    urls = type(
        "Urls", (), {"urlpatterns": [path("echo/<int:n>", echo), path("slow/<int:n>", slow)]}
    )
    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    django.setup()
    return _by_adapter(mangum.Mangum(get_asgi_application(), lifespan="off"))


@making("Powertools, a resolver", "http")
def _(_library: Any, at: At) -> Any:
    import requests
    from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

    app, session = APIGatewayHttpResolver(), requests.Session()

    @app.get("/echo/<n>")
    def echo(n: str) -> dict[str, int]:
        return {"n": int(session.get(at.of(n)).json()["n"])}

    @app.get("/slow/<n>")
    def slow(n: str) -> dict[str, int]:
        time.sleep(60)
        return {"n": int(n)}

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
