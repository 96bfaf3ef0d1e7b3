"""Tests of the example that do not wait: run python -m pytest in this folder."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING

import app
import pytest

from watchdog_lambda.testing import FakeContext, clock, expire

if TYPE_CHECKING:
    from typing import Any


@pytest.fixture(autouse=True)
def empty_tables() -> None:
    for table in (app.locks, app.charged, app.shipped, app.telemetry):
        table.clear()


def test_the_caller_gets_the_fallback_and_no_lock_is_left(
    monkeypatch: pytest.MonkeyPatch, watchdog_timeouts: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(app, "price", expire)

    answer = app.handler({"orders": ["a", "b"]}, FakeContext(aws_request_id="request-7"))

    assert answer["statusCode"] == 504
    assert json.loads(answer["body"])["request_id"] == "request-7"
    assert app.locks == set()
    assert (app.charged, app.shipped) == ([], [])
    [record] = watchdog_timeouts
    assert record["outcome"] == "fallback"
    assert [hook["name"] for hook in record["hooks"]] == ["app.release", "app.flush"]


def test_telemetry_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "price", lambda _seconds: expire() if app.shipped else None)

    app.handler({"orders": ["a", "b"]}, FakeContext())

    assert app.shipped == ["a"]
    assert not app.telemetry


def test_an_order_is_committed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        if seconds:  # the commit's, between charging and shipping
            expire()

    # Do not replace time.sleep itself, which other code uses too.
    monkeypatch.setattr(app, "time", types.SimpleNamespace(sleep=sleep))

    answer = app.handler({"orders": ["a", "b"], "commit_seconds": 1}, FakeContext())

    assert answer["statusCode"] == 504
    assert (app.charged, app.shipped) == (["a"], ["a"])


def test_no_order_is_begun_that_has_no_time(
    monkeypatch: pytest.MonkeyPatch, watchdog_timeouts: list[dict[str, Any]]
) -> None:
    # 0.7 s are left then. An order takes 0.9 s, and would be interrupted 0.5 s before the deadline.
    monkeypatch.setattr(app, "price", lambda _seconds: clock.advance(1.3))

    answer = app.handler({"orders": ["a", "b"]}, FakeContext(2.0))

    assert answer["statusCode"] == 206
    assert (answer["placed"], answer["left"]) == (["a"], ["b"])
    assert watchdog_timeouts == []


def test_it_warns_a_second_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(app.logger, "warning", lambda _text, place: warned.append(place))
    monkeypatch.setattr(app, "price", lambda _seconds: clock.advance(1.3))

    answer = app.handler({"orders": ["a"]}, FakeContext(2.0))

    assert answer["statusCode"] == 200
    assert len(warned) == 1
