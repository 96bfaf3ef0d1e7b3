"""Tests of Powertools with the watchdog under the real runtime: batches and the log's contents."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.utilities.batch import EventType

from tests import events

from .harness import WAYS, Call, Way, call, running, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.emulator import Emulator

TIMEOUT = 2
FIRES_AFTER = 1.5

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture(scope="module", params=WAYS)
def batches(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """Start one function for all cases.

    Each case runs in the process that the last one has left.
    """
    function = wrapped(
        "batches.handler",
        way=request.param,
        timeout=TIMEOUT,
        warm_up={},
        environment={"LAMBDA_TASK_ROOT": "/var/task"},  # Powertools keeps its loop there
    )
    with running(function):
        yield function


def identifiers(done: Call) -> list[Any]:
    return [item["itemIdentifier"] for item in done.answer["batchItemFailures"]]


def printed(done: Call, key: str) -> list[str]:
    lines = [json.loads(line) for line in done.lines if line.startswith("{")]
    return [line[key] for line in lines if key in line]


@pytest.mark.parametrize(
    ("processor", "event", "failed"),
    [
        ("sqs", events.sqs("ok", "fail", "block", "ok"), ["message-1", "message-2", "message-3"]),
        (
            "fifo",
            events.fifo("ok", "fail", "ok", "block", "ok", groups="ABCAC"),
            ["message-1", "message-3", "message-4"],
        ),
        (
            "kinesis",
            events.kinesis("ok", "block", "ok"),
            [f"4959033827149025660855969253836157109592157598913665{n}" for n in (1, 2)],
        ),
        (
            "dynamodb",
            events.dynamodb("ok", "block", "ok"),
            [f"1110000000000000000{n}" for n in (1, 2)],
        ),
        pytest.param(
            "kafka",
            events.kafka("ok", "block", "ok"),
            [{"partition": "mytopic-0", "offset": n} for n in (1, 2)],
            marks=pytest.mark.skipif(
                not hasattr(EventType, "Kafka"), reason="Kafka needs Powertools 3.26 or newer"
            ),
        ),
        ("sqs", events.sqs("ok", "swallow", "ok"), ["message-2"]),
        ("async", events.sqs("block", "ok", "fail", "ok"), ["message-2", "message-0"]),
    ],
)
def test_partial_batch_response_is_returned_in_time(
    batches: Emulator, processor: str, event: dict[str, Any], failed: list[Any]
) -> None:
    """The records that were not done are reported to the event source in time.

    The process serves the next event.
    """
    before = call(batches, {})
    timed_out = call(batches, {**event, "processor": processor})
    after = call(batches, {})

    assert identifiers(timed_out) == failed
    assert FIRES_AFTER - 0.05 < timed_out.response.seconds < FIRES_AFTER + 0.3
    [report] = timed_out.reports
    assert report["outcome"] == "returned"
    if processor == "async":
        assert printed(timed_out, "cleaned") == ["block"]
    assert after.answer == before.answer
    assert after.answer["tasks"] == 0


TEN = ("ok",) * 6 + ("block",) + ("ok",) * 3


@pytest.mark.parametrize(
    ("processor", "event", "failed"),
    [
        ("sqs", events.sqs(*TEN), "message-6"),
        ("async", events.sqs(*TEN), "message-6"),
        ("fifo", events.fifo(*TEN, groups="ABCDEFGHIJ"), "message-6"),
        ("kinesis", events.kinesis(*TEN), "49590338271490256608559692538361571095921575989136656"),
        ("dynamodb", events.dynamodb(*TEN), "11100000000000000006"),
        pytest.param(
            "kafka",
            events.kafka(*TEN),
            {"partition": "mytopic-0", "offset": 6},
            marks=pytest.mark.skipif(
                not hasattr(EventType, "Kafka"), reason="Kafka needs Powertools 3.26 or newer"
            ),
        ),
    ],
)
def test_hanging_record_fails_alone(
    batches: Emulator, processor: str, event: dict[str, Any], failed: Any
) -> None:
    """A record that hangs fails alone: nine of ten are done, and the invocation has no timeout."""
    done = call(batches, {**event, "processor": f"{processor}, limited"})

    assert identifiers(done) == [failed]
    assert printed(done, "done") == ["ok"] * 9
    assert done.reports == []


def test_batch_without_finished_records_raises(batches: Emulator) -> None:
    """If no record was done, Powertools' own error with every record's error is raised."""
    timed_out = call(batches, {**events.sqs("block", "ok"), "processor": "sqs"})

    assert timed_out.answer["errorType"] == "BatchProcessingError"
    assert "LambdaTimeout: interrupted after 1." in timed_out.answer["errorMessage"]
    assert "LambdaTimeout: not begun" in timed_out.answer["errorMessage"]


# ---- Logger, Metrics, Tracer -------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dev", ["0", "1"])
def test_timeout_record_uses_powertools_logger_format(way: Way, dev: str) -> None:
    """A timeout's record has the format of the user's Logger and is always one line.

    It has service, appended keys, correlation id and Lambda's context.
    """
    function = wrapped(
        "observed.handler",
        way=way,
        timeout=TIMEOUT,
        warm_up={},
        environment={"POWERTOOLS_DEV": dev, "POWERTOOLS_TRACE_DISABLED": "1"},
    )
    with running(function):
        timed_out = call(
            function, {"sleep": 30, "order": "o-7", "headers": {"trace": "t-1"}, "secret": "s3cr3t"}
        )

        [report] = timed_out.reports
        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert report["service"] == "orders"
        assert report["order"] == "o-7"
        assert report["correlation_id"] == "t-1"
        assert report["function_request_id"] == report["request_id"] == timed_out.request_id
        assert report["level"] == "ERROR"
        assert report["location"].startswith("observed.py:")
        assert "s3cr3t" not in str(report)


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    """Stands for the daemon to which the Tracer sends its segments."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as received:
        received.bind(("127.0.0.1", 0))
        received.settimeout(10.0)
        yield received


@pytest.mark.parametrize("way", WAYS)
def test_timeout_adds_metric_and_trace_subsegment(way: Way, daemon: socket.socket) -> None:
    """A timeout adds our own metric to the user's.

    The trace gets a subsegment of ours, because the user's is closed.
    """
    function = wrapped(
        "observed.handler",
        way=way,
        timeout=TIMEOUT,
        warm_up={},
        environment={
            "WATCHDOG_LAMBDA_METRICS_NAMESPACE": "Timeouts",
            "POWERTOOLS_SERVICE_NAME": "orders",
            "LAMBDA_TASK_ROOT": "/var/task",
            "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.getsockname()[1]}",
        },
    )
    with running(function):
        normal = call(function, {})
        timed_out = call(function, {"sleep": 30, "trace": TRACE})
        untraced = call(function, {"sleep": 30})

        # Without a trace the recorder would log an error about our subsegment, too.
        assert not [line for line in untraced.lines if "Subsegment watchdog" in line]
        assert [line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in metrics(normal)] == [
            "Own"
        ]
        own, ours = metrics(timed_out)
        assert own["Orders"] == [1.0]  # flushed when the handler is left, as without a timeout
        [definition] = ours["_aws"]["CloudWatchMetrics"]
        assert definition == {
            "Namespace": "Timeouts",
            "Dimensions": [["function_name", "outcome"]],
            "Metrics": [
                {"Name": "Timeout", "Unit": "Count"},
                {"Name": "RemainingTime", "Unit": "Milliseconds"},
            ],
        }
        assert ours["outcome"] == "raised"
        assert ours["function_name"] == timed_out.reports[0]["function_name"] != ""
        assert ours["Timeout"] == [1.0]
        assert 0 < ours["RemainingTime"][0] <= 500

        subsegments: list[dict[str, Any]] = []
        while not subsegments or subsegments[-1]["name"] != "watchdog.timeout":
            subsegments.append(json.loads(daemon.recv(65536).partition(b"\n")[2]))
        user_subsegment, ours = subsegments
        assert user_subsegment["name"] == "## observed"
        assert user_subsegment["fault"] is True
        assert user_subsegment["trace_id"] == ours["trace_id"]
        assert ours["annotations"]["watchdog_outcome"] == "raised"
        assert ours["annotations"]["watchdog_location"].startswith("observed.py:")


def metrics(done: Call) -> list[dict[str, Any]]:
    """Return the lines in Embedded Metric Format, in the order in which they were written."""
    lines = [json.loads(line) for line in done.lines if line.startswith("{")]
    return [line for line in lines if "_aws" in line]
