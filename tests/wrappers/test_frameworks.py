"""Tests of frameworks that map events to routes: Mangum with FastAPI, Powertools' event handler."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.harness import REPORT, Call, call, running

from .harness import ENTRYPOINT, TIMEOUT, function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.emulator import Emulator

pytestmark = pytest.mark.wrappers


def request(path: str) -> dict[str, Any]:
    """Return an API Gateway event, as REST APIs send it."""
    return {
        "resource": path,
        "path": path,
        "httpMethod": "GET",
        "headers": {"Host": "example.org"},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"httpMethod": "GET", "path": path, "identity": {}, "stage": "$default"},
        "body": None,
        "isBase64Encoded": False,
    }


@pytest.fixture
def web() -> Iterator[Emulator]:
    """A FastAPI application wrapped by Mangum."""
    environment = {"WATCHDOG_LAMBDA_HANDLER": "web_app.handler"}
    with running(function(ENTRYPOINT, environment, warm_up=request("/ok"))) as emulator:
        yield emulator


@pytest.fixture
def rest() -> Iterator[Emulator]:
    """An application with Powertools' APIGatewayRestResolver."""
    environment = {"WATCHDOG_LAMBDA_HANDLER": "rest_app.handler"}
    with running(function(ENTRYPOINT, environment, warm_up=request("/ok"))) as emulator:
        yield emulator


def is_alive(emulator: Emulator) -> bool:
    """Return whether the process that served the first call serves the next one."""
    body = json.loads(call(emulator, request("/ok")).answer["body"])
    return bool(body["call"] == 2)


def report(done: Call) -> dict[str, Any]:
    """Return the record.

    Without Lambda's log descriptor awslambdaric ends no line after a traceback.
    """
    [line] = [line for line in done.lines if REPORT in line]
    found: dict[str, Any] = json.loads(line[line.index('{"level"') :])
    return found


def test_mangum_cancels_a_waiting_route(web: Emulator) -> None:
    """While Mangum's loop waits, the task is cancelled and its cleanup runs.

    Mangum alone would leave it pending.
    """
    done = call(web, request("/await"))

    assert done.answer["errorType"] == "LambdaTimeout"
    assert done.response.seconds < TIMEOUT
    assert "handler: finally" in done.lines
    assert report(done)["outcome"] == "raised"
    assert is_alive(web)


def test_mangum_interrupts_a_blocking_route(web: Emulator) -> None:
    """A route that blocks gets the interrupt, and Mangum answers as for every error of a route."""
    done = call(web, request("/block"))

    assert done.answer["statusCode"] == 500
    assert done.response.seconds < TIMEOUT
    assert "handler: finally" in done.lines
    assert report(done)["outcome"] == "returned"
    assert is_alive(web)


def test_mangum_answers_in_time_with_a_route_on_a_thread(web: Emulator) -> None:
    """With a route on a thread the caller is answered in time.

    The thread cannot be stopped, and goes on until it ends by itself.
    """
    done = call(web, request("/thread"))

    assert done.answer["errorType"] == "LambdaTimeout"
    assert done.response.seconds < TIMEOUT
    assert is_alive(web)


def test_powertools_route_raises_the_timeout(rest: Emulator) -> None:
    """The error leaves a Powertools route through the resolver. The metrics so far are written."""
    done = call(rest, request("/sleep"))

    assert done.answer["errorType"] == "LambdaTimeout"
    assert done.response.seconds < TIMEOUT
    assert "handler: finally" in done.lines
    metrics = [line for line in done.lines if "CloudWatchMetrics" in line]
    assert [json.loads(line)["Begun"] for line in metrics] == [[1.0]]
    record = report(done)
    assert record["service"] == "orders", "the user's Logger did not write the record"
    assert is_alive(rest)


def test_powertools_exception_handler_answers(rest: Emulator) -> None:
    """`@app.exception_handler(TimeoutError)` answers for the routes of Powertools."""
    done = call(rest, request("/answered"))

    assert done.answer["statusCode"] == 504
    assert "interrupted after" in done.answer["body"]
    assert report(done)["outcome"] == "returned"
    assert is_alive(rest)
