"""As in a layer or a zip file that has no Powertools."""

from __future__ import annotations

import sys

sys.modules["aws_lambda_powertools"] = None  # type: ignore[assignment]


def handler(_event: object, _context: object) -> None:
    """Do nothing."""
