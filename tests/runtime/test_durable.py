"""A durable function is not interrupted: Lambda retries a timeout there, but an error is final."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import call, running, wrapped

DURABLE = {"DurableExecutionArn": "arn:aws:lambda:execution", "CheckpointToken": "token"}


@pytest.mark.parametrize(
    ("event", "environment", "is_interrupted"),
    [
        (DURABLE, {}, False),
        (DURABLE, {"WATCHDOG_LAMBDA_INTERRUPT": "timeout-error"}, True),
        ({"DurableExecutionArn": "an event of the user's"}, {}, True),
        (DURABLE, {"WATCHDOG_LAMBDA_LAST_RESORT": "exit"}, False),
    ],
    ids=["durable", "durable-configured", "not-durable", "durable-exit"],
)
def test_durable_function_is_not_interrupted_unless_configured(
    event: dict[str, Any],
    environment: dict[str, str],
    is_interrupted: bool,  # noqa: FBT001
) -> None:
    """A durable function is interrupted only if INTERRUPT is set.

    Otherwise its hooks run, the report is written, and Lambda times it out and retries.
    """
    warm_up = {"do": "ok"}
    with running(
        wrapped("app.handler", timeout=2, environment=environment, warm_up=warm_up)
    ) as emulator:
        timed_out = call(emulator, {"do": "sleep", **event})
        reports = timed_out.reports

        assert len(reports) == 1
        if is_interrupted:
            assert timed_out.answer["errorType"] == "LambdaTimeout"
        else:
            assert "Task timed out" in timed_out.response.body
            assert reports[0]["outcome"] == "stuck"
            assert reports[0]["interrupts"] == []
            assert reports[0]["obstacle"].startswith("a durable function")
            if "WATCHDOG_LAMBDA_LAST_RESORT" in environment:
                assert reports[0]["last_resort"].startswith("not exit: a durable function")
