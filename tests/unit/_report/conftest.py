"""Fixtures that the tests of the report share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from aws_lambda_powertools import Logger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def powertools() -> Iterator[Logger]:
    """Return a Powertools Logger, and remove its traces for the other tests."""
    logger = Logger(service="payments", level="INFO")
    yield logger
    for handler in list(logger.handlers):
        logger._logger.removeHandler(handler)
    logging.Logger.manager.loggerDict.pop("payments", None)
