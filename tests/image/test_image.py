"""The image, built and run for real; the first run takes minutes, because the base is made then."""

from __future__ import annotations

import pytest

from tools.containers import BASES, LOGS, build, unavailable
from tools.image import verify

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("base", BASES)
def test_image_runs_the_handler_under_the_watchdog(base: str) -> None:
    """On each kind of base: unprivileged, answers in time, and the process survives a timeout."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(f"the image was not built or run: {reason}")
    image = build(base)

    checks = list(verify(image, base))

    failed = [str(check) for check in checks if not check.passed]
    assert failed == [], f"logs are in {LOGS}"
