"""Ships the orders of an SQS batch; after a timeout only unshipped ones are delivered again.

The one line that differs from a handler without the watchdog is the import of the batch utility.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from watchdog_lambda.batch import BatchProcessor, EventType, process_partial_response

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

logger = Logger(service="shipping")
processor = BatchProcessor(event_type=EventType.SQS)


def ship(record: SQSRecord) -> None:
    """Ship one order. The message also says how long that takes."""
    order = record.json_body
    try:
        time.sleep(order["seconds"])  # simulates a slow call
        logger.info("shipped", order=order["id"])
    finally:
        logger.info("connection closed", order=order["id"])


def handler(event: dict[str, Any], context: Any) -> Any:
    """Answer with the messages that must be delivered again."""
    return process_partial_response(event, ship, processor, context)
