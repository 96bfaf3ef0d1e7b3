"""A caller that gives up before the function's own timeout is answered in time."""

from __future__ import annotations

import pytest

from .harness import WAYS, Way, call, running, wrapped


@pytest.mark.parametrize("way", WAYS)
def test_caller_is_answered_before_it_gives_up(way: Way) -> None:
    """A caller that gives up after 2 s gets the fallback's answer in time.

    The fallback knows the request; Lambda would have waited for 20 s.
    """
    function = wrapped(
        "called.handler",
        way=way,
        timeout=20,
        warm_up={},
        environment={"WATCHDOG_LAMBDA_TIMEOUT": "2"},
    )
    with running(function):
        timed_out = call(function, {"sleep": 30, "path": "/orders"})
        failed = call(function, {"sleep": 30, "path": "/secret", "fail": True})
        after = call(function, {})

        assert timed_out.answer == {"statusCode": 504, "path": "/orders", "after": 1.5}
        assert 1.45 < timed_out.response.seconds < 2.0
        [report] = timed_out.reports
        assert report["outcome"] == "fallback"
        assert [(hook["name"], hook["outcome"]) for hook in report["hooks"]] == [
            ("called.flush", "ok")
        ]
        assert failed.answer["errorType"] == "LambdaTimeout"
        [report] = failed.reports
        assert report["fallback_error"].startswith("KeyError in called.py:")
        assert "/secret" not in str(report)
        assert after.answer == {"statusCode": 200}


def test_earlier_function_timeout_applies() -> None:
    """A TIMEOUT that is longer than the function's own has no effect."""
    environment = {"WATCHDOG_LAMBDA_TIMEOUT": "28"}
    with running(
        wrapped("called.handler", timeout=2, warm_up={}, environment=environment)
    ) as function:
        timed_out = call(function, {"sleep": 30, "path": "/orders"})

        assert timed_out.answer == {"statusCode": 504, "path": "/orders", "after": 1.5}
