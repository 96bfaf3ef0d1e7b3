"""Builds a report from many pages; when out of time, it saves and returns those that it has.

Written for the SIGALRM recipe, whose decorator raised TimeoutError here. The decorator is gone,
and nothing else has changed.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

PAGE_SECONDS = 0.2
SAVE_SECONDS = 0.1

logger = Logger(service="reports")
calls = itertools.count(1)


def load_page(seconds: float) -> None:
    time.sleep(seconds)  # simulates a query


def save(pages: int) -> None:
    time.sleep(SAVE_SECONDS)  # simulates an upload
    logger.info("saved %d pages", pages)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Load pages for as many seconds as the event says."""
    answer = {"call": next(calls), "pid": os.getpid()}
    end = time.monotonic() + event.get("sleep", 0)
    pages = 0
    logger.info("report begins")
    try:
        while (left := end - time.monotonic()) > 0:
            load_page(min(PAGE_SECONDS, left))
            pages += 1
    except TimeoutError as error:
        logger.warning("out of time: %s", error)
        save(pages)
        return {"statusCode": 504, "pages": pages, **answer}
    finally:
        logger.info("finally: connection closed")
    return {"statusCode": 200, "pages": pages, **answer}
