"""The image, built and run for real; minutes at the first run, for the base is made then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.buildah import Store
from tools.image import BASES, CACHE, build, unavailable, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """Give the images' store, or skip everything here with the reason."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(f"the image was not built or run: {reason}")
    store = Store(CACHE)
    with store.locked():
        yield store


@pytest.mark.parametrize("base", BASES)
def test_image_runs_the_handler_under_the_watchdog(store: Store, base: str) -> None:
    """On each kind of base: unprivileged, answers in time, and the process survives a timeout."""
    image = build(store, base)

    checks = list(verify(store, image, base))

    failed = [str(check) for check in checks if not check.passed]
    assert failed == [], f"logs are in {store.logs}"
