"""Tests of the image, built and run; the first run takes minutes, because it makes the base."""

from __future__ import annotations

import pytest

from tools.containers import BASES, LOGS, build, unavailable
from tools.image import verify

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("base", BASES)
def test_image_runs_the_handler_under_the_watchdog(base: str) -> None:
    """On each kind of base the image answers a timeout in time.

    It runs unprivileged, and the process survives the timeout.
    """
    reason = unavailable()
    if reason is not None:
        pytest.skip(f"the image was not built or run: {reason}")
    image = build(base)

    checks = list(verify(image, base))

    failed = [str(check) for check in checks if not check.passed]
    assert failed == [], f"logs are in {LOGS}"
