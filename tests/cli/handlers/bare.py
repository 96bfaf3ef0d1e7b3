"""A handler in an environment without Powertools, as in a layer or a zip file."""

from __future__ import annotations

import sys

sys.modules["aws_lambda_powertools"] = None  # type: ignore[assignment]


def handler(_event: object, _context: object) -> None:
    """Do nothing."""
