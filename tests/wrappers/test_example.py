"""The example with Mangum does under the real runtime what its README says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.runtime.harness import REPORT, Call, call, running

from .harness import ENTRYPOINT, TIMEOUT, function
from .test_frameworks import request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.emulator import Emulator

pytestmark = pytest.mark.wrappers

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "mangum_app"
FIRES_AFTER: Final = TIMEOUT * 0.75


@pytest.fixture
def web() -> Iterator[Emulator]:
    environment = {"WATCHDOG_LAMBDA_HANDLER": "app.handler"}
    emulator = function(ENTRYPOINT, environment, cwd=EXAMPLE, warm_up=request("/"))
    with running(emulator):
        yield emulator


def outcomes(done: Call) -> list[str]:
    """Return how the timeouts ended, by the records in the log."""
    text = "\n".join(line for line in done.lines if REPORT in line)
    return re.findall(r'"outcome": "(returned|raised|fallback|stuck)", "request_id"', text)


def answer(emulator: Emulator, path: str) -> tuple[Any, Call]:
    """Return the body of a 504 and the call, and check that the next one finds the same process."""
    before = json.loads(call(emulator, request("/")).answer["body"])
    done = call(emulator, request(path))
    assert done.answer["statusCode"] == 504
    assert done.response.seconds < TIMEOUT
    assert json.loads(call(emulator, request("/")).answer["body"]) == before
    return json.loads(done.answer["body"]), done


def test_mangum_example_cancels_a_route_that_waits(web: Emulator) -> None:
    body, done = answer(web, "/await/30")

    assert body["request_id"] == done.request_id
    assert "connection closed" in done.lines
    assert outcomes(done) == ["fallback"]


def test_mangum_example_interrupts_a_route_that_blocks(web: Emulator) -> None:
    body, done = answer(web, "/block/30")

    assert re.match(r"interrupted after 3\.\d s, \d\.\d s before the 4\.0 s limit", body["detail"])
    assert "connection closed" in done.lines
    assert outcomes(done) == ["returned"]


def test_mangum_example_does_not_wait_for_a_thread(web: Emulator) -> None:
    """The example does not wait for a route's thread, which goes on until it ends by itself."""
    body, done = answer(web, "/thread/4")

    assert body["request_id"] == done.request_id
    assert outcomes(done) == ["fallback"]


def test_mangum_example_time_limit_ends_a_call(web: Emulator) -> None:
    """The example's own time limit ends a call before the watchdog fires."""
    body, done = answer(web, "/bounded/30")

    assert body == {"detail": "out of time"}
    assert done.response.seconds == pytest.approx(FIRES_AFTER - 0.5, abs=0.3)
    assert outcomes(done) == []
