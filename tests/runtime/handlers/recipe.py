"""A handler written for the SIGALRM recipe with Powertools, without the recipe's decorator."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="orders")


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Return what is done when the time is up."""
    if event["do"] == "ok":
        return {"ok": True, "pid": os.getpid()}
    logger.append_keys(order_id="17")
    try:
        logger.info("placing the order")
        time.sleep(60)
    except TimeoutError as error:
        logger.warning("the order is not placed yet", exc_info=error)
        return {"statusCode": 504, "body": "try again"}
    finally:
        logger.info("order handler leaves")
    return {"statusCode": 200, "body": "placed"}
