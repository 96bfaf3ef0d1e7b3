"""A handler for batches of every source; the event names the source and the processor."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

from watchdog_lambda.batch import (
    AsyncBatchProcessor,
    BatchProcessor,
    EventType,
    SqsFifoPartialProcessor,
    async_process_partial_response,
    process_partial_response,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def make(seconds: float | None) -> dict[str, Any]:
    """Make a processor for each kind of source, with a time limit for each record."""
    made: dict[str, Any] = {
        "sqs": BatchProcessor(EventType.SQS, record_time_limit=seconds),
        "kinesis": BatchProcessor(EventType.KinesisDataStreams, record_time_limit=seconds),
        "dynamodb": BatchProcessor(EventType.DynamoDBStreams, record_time_limit=seconds),
        "fifo": SqsFifoPartialProcessor(skip_group_on_error=True, record_time_limit=seconds),
        "async": AsyncBatchProcessor(EventType.SQS, record_time_limit=seconds),
    }
    if hasattr(EventType, "Kafka"):  # exists from Powertools 3.26 on
        made["kafka"] = BatchProcessor(EventType.Kafka, record_time_limit=seconds)
    return made


processors = {"": make(None), "limited": make(0.2)}
read: dict[str, Callable[[Any], str]] = {
    "sqs": lambda record: record.body,
    "fifo": lambda record: record.body,
    "kinesis": lambda record: record.kinesis.data_as_text(),
    "dynamodb": lambda record: record.dynamodb.new_image["Message"],
    "kafka": lambda record: record.json_value["body"],
}


def handler(event: dict[str, Any], context: Any) -> Any:
    """Process the batch."""
    kind, _, limited = event.get("processor", "").partition(", ")
    if kind == "async":
        processor = processors[limited][kind]
        return async_process_partial_response(event, work_async, processor, context)
    if kind:

        def work(record: Any) -> None:
            do(read[kind](record))

        return process_partial_response(event, work, processors[limited][kind], context)
    return {"pid": os.getpid(), "tasks": len(_tasks())}


def do(what: str) -> None:
    if what == "fail":
        raise ValueError(what)
    if what == "swallow":
        try:
            time.sleep(60)
        except TimeoutError:
            pass
    if what == "block":
        time.sleep(60)
    print(json.dumps({"done": what}))


async def work_async(record: Any) -> None:
    if record.body == "block":
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            print(json.dumps({"cleaned": record.body}))
    do(record.body)


def _tasks() -> set[Any]:
    """Return the pending tasks of the loop that Powertools keeps."""
    if not os.environ.get("LAMBDA_TASK_ROOT"):
        return set()
    try:
        return asyncio.all_tasks(asyncio.get_event_loop_policy().get_event_loop())
    except RuntimeError:  # no loop exists yet
        return set()
