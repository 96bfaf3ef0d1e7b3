"""Finds AWS's Runtime Interface Emulator on this machine."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE: Final = "AWS_LAMBDA_RIE"
"""The environment variable for the emulator's path; bootstrap/entrypoint.sh reads it too."""

_NAME: Final = "aws-lambda-rie"
_ARCHITECTURES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64"}


def find() -> str | None:
    """Look on PATH, where AWS's images keep the emulator, and for aws-sam-cli's copy."""
    candidates = [shutil.which(_NAME), f"/usr/local/bin/{_NAME}", *_of_sam()]
    return next((path for path in candidates if path and os.access(path, os.X_OK)), None)


def _of_sam() -> Iterator[str]:
    sam = shutil.which("sam")
    architecture = _ARCHITECTURES.get(platform.machine().lower())
    if sam is None or architecture is None:
        return
    environment = Path(sam).resolve().parent.parent
    where = f"lib/python3*/site-packages/samcli/local/rapid/{_NAME}-{architecture}"
    yield from map(str, sorted(environment.glob(where)))
