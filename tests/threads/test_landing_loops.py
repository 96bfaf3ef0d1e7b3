"""Loops that an interrupt can damage, with real timeouts: nothing is left behind.

``python3 dev.py landing`` prints figures for the same loops.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import pytest

from tests.support import BOUND
from tools.landing import strike
from tools.landing_loops import ASYNC_LOOPS, LOOPS
from watchdog_lambda import LambdaTimeout, watch
from watchdog_lambda._cpython import taps
from watchdog_lambda.testing import FakeContext

pytestmark = pytest.mark.alone  # beyond the hard deadline a late interrupt lands in any frame

ROUNDS = 3
SECONDS = 0.06


@pytest.mark.untraced
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a coroutine was cut before it began
@pytest.mark.parametrize("name", [*LOOPS, *ASYNC_LOOPS])
def test_interrupted_loop_leaves_nothing_behind(name: str) -> None:
    """A timeout of 60 ms, which has the shortest patience, leaves nothing behind."""
    verdicts = [strike(name, SECONDS) for _ in range(ROUNDS)]

    assert [verdict for verdict, was_cut in verdicts if verdict and not was_cut] == []


@pytest.mark.untraced
@pytest.mark.skipif(sys.version_info < (3, 12), reason="an injection cannot choose where it lands")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name", ["exit_stack_with_a_lock", "acquire_and_try", "a_finally", "path_exists"]
)
def test_interrupted_loop_on_another_thread_leaves_nothing_behind(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another thread, which is tapped and traced to a safe point, nothing is left behind."""
    # A thread that gets no turn on a busy machine would be injected, as one in C code is.
    monkeypatch.setattr(taps, "HEARING", BOUND)
    verdicts: list[tuple[list[str], bool]] = []
    for _ in range(ROUNDS):
        worker = threading.Thread(target=lambda: verdicts.append(strike(name, SECONDS)))
        worker.start()
        worker.join(BOUND)

    assert len(verdicts) == ROUNDS
    assert [verdict for verdict, was_cut in verdicts if verdict and not was_cut] == []


@pytest.mark.untraced
def test_library_that_returned_before_landing_is_recorded(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The library in which the thread was met is recorded, though its call returned first.

    Its client may be in the middle of a protocol, so the process is recycled.
    """
    library: dict[str, Any] = {}
    source = "def execute():\n    for _ in range(20_000):\n        pass\n"
    exec(compile(source, "/opt/site-packages/driver/core.py", "exec"), library)  # noqa: S102

    @watch
    def handler(_event: object, _context: object) -> None:
        while True:
            library["execute"]()

    with pytest.raises(LambdaTimeout):
        handler({}, FakeContext(0.8))

    [line] = [line for line in capfd.readouterr().out.splitlines() if "watchdog.timeout" in line]
    record = json.loads(line)
    assert "(handler)" in record["interrupts"][0]["location"]
    assert "interrupted in driver" in record["recycled"]
