"""The pages about Powertools agree with the code, and their snippets run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import events
from tests.support import Context, block
from watchdog_lambda import watch

ROOT = Path(__file__).parents[2]
SECONDS = 0.8


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def snippets(page: str) -> list[dict[str, Any]]:
    """Return the page's Python snippets, each executed in a namespace of its own."""
    namespaces = []
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", text(page), re.DOTALL)):
        namespace: dict[str, Any] = {}
        exec(compile(code, f"{page}:{number}", "exec"), namespace)  # noqa: S102
        namespaces.append(namespace)
    return namespaces


def test_partial_batch_snippets_run(capfd: pytest.CaptureFixture[str]) -> None:
    """The page's handlers run: the one with the changed import, and the one that cleans up."""
    plain, *_, cleaning = snippets("how-to/partial-batches.md")

    assert watch(plain["handler"])(events.sqs("a", "b"), Context(30.0)) == {"batchItemFailures": []}
    assert "shipping b" in capfd.readouterr().out

    cleaning["import_rows"] = lambda body: block() if body == "slow" else None
    response = watch(cleaning["handler"])(events.sqs("quick", "slow", "quick"), Context(SECONDS))
    assert response == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    assert cleaning["parked"] == ["message-1"]


def test_fallback_hides_batch_error() -> None:
    """A fallback hides the error of a batch, as the page warns.

    Outside of the processor the caller gets no batchItemFailures.
    """
    [plain, *_] = snippets("how-to/partial-batches.md")

    def handler(event: Any, context: Any) -> Any:
        block()
        return plain["handler"](event, context)

    fallback = {"statusCode": 504}
    response = watch(fallback=fallback)(handler)(events.sqs("a"), Context(SECONDS / 2))

    assert response == fallback


def test_idempotency_snippets_run() -> None:
    """With Idempotency the context is registered, and the Interrupt becomes an Exception."""
    from watchdog_lambda import Interrupt  # noqa: PLC0415

    registering, translating = snippets("how-to/idempotency.md")
    context = Context(30.0)
    registering["handler"]({}, context)
    assert registering["config"].lambda_context is context

    def call_the_bank(_order: object) -> None:
        raise Interrupt

    translating["call_the_bank"] = call_the_bank
    with pytest.raises(TimeoutError):
        translating["charge"]({})


def test_documented_metrics_match_the_emitted_line(capfd: pytest.CaptureFixture[str]) -> None:
    """The page's metrics, units and dimensions are those of the line."""
    [snippet] = snippets("reference/metrics.md")
    assert snippet["handler"]({}, Context(30.0)) == {"statusCode": 200}

    watch(metrics_namespace="Orders", fallback=1)(lambda _e, _c: block())({}, Context(SECONDS / 2))
    line = json.loads(capfd.readouterr().out.splitlines()[-1])
    [definition] = line["_aws"]["CloudWatchMetrics"]
    page = text("reference/metrics.md")
    metrics = re.findall(r"^\| `(\w+)` \| (Count|Milliseconds) \|", page, re.MULTILINE)
    assert metrics == [(metric["Name"], metric["Unit"]) for metric in definition["Metrics"]]
    dimensions = re.findall(r"^\| `([a-z_]+)` \| (?:from|as)", page, re.MULTILINE)
    assert [dimensions] == definition["Dimensions"]
