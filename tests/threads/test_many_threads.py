"""Handlers in several threads of one process: each has its own invocation."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND, Context, block, landed_outside
from watchdog_lambda import LambdaTimeout, watch

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 3


def spin() -> None:
    while True:
        pass


@watch(grace_period=0.1)
def handler(work: Callable[[], object], _context: object) -> object:
    return work()


class Outcomes:
    """Calls the handler in a thread for its own request, and keeps each call's result."""

    def __init__(self) -> None:
        self.of: dict[str, object] = {}
        self.stray: dict[str, list[BaseException]] = {}

    def call(self, request_id: str, work: Callable[[], object], seconds: float) -> None:
        context = Context(seconds)
        context.aws_request_id = request_id
        try:
            self.of[request_id] = handler(work, context)
        except LambdaTimeout as timeout:
            self.of[request_id] = timeout.details and timeout.details.request_id
        # No other thread's interrupt may land here either.
        self.stray[request_id] = landed_outside(0.2)


FIRST_OFF_MAIN = """
import threading, time
from tests.support import Context, block
from watchdog_lambda import LambdaTimeout, watch

handler = watch(grace_period=0.1)(lambda work, _context: work())
first = threading.Thread(target=handler, args=(lambda: None, Context(0.3)))
first.start()
first.join()
begun = time.monotonic()
try:
    handler(block, Context(1.0))
except LambdaTimeout:
    print(time.monotonic() - begun)
"""


def test_main_thread_is_nudged_after_invocations_on_other_threads() -> None:
    """The first invocation on the main thread rings and is nudged, after others elsewhere.

    The watchdog sleeps for an earlier deadline then, so nothing else would wake it in time.
    """
    done = subprocess.run(
        [sys.executable, "-c", FIRST_OFF_MAIN],
        capture_output=True,
        text=True,
        check=True,
        timeout=6 * BOUND,
    )

    assert 0.85 < float(done.stdout.splitlines()[-1]) < 1.0, done.stdout


def test_simultaneous_timeouts_each_get_their_own_interrupt(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of simultaneous timeouts the main thread's is nudged, and the others are injected."""
    outcomes = Outcomes()
    workers = [
        threading.Thread(target=outcomes.call, args=(f"worker-{n}", spin, 0.5))
        for n in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    outcomes.call("main", block, 0.5)
    for worker in workers:
        worker.join(BOUND)

    names = {"main", *(f"worker-{n}" for n in range(WORKERS))}
    assert outcomes.of == {name: name for name in names}
    assert outcomes.stray == {name: [] for name in names}
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    by_request = {record["request_id"]: record for record in records}
    assert len(records) == len(by_request) == len(names)
    assert "obstacle" not in by_request["main"]
    for name in names - {"main"}:
        assert "not on the main thread" in by_request[name]["obstacle"]
        assert [i["exception"] for i in by_request[name]["interrupts"]] == ["LambdaTimeout"]
        assert "test_many_threads.py" in by_request[name]["location"]


@pytest.mark.parametrize("late", ["main", "worker"])
def test_timeout_in_one_thread_does_not_affect_another(late: str) -> None:
    """A handler in one thread is not affected by a timeout in another one."""
    outcomes = Outcomes()
    over = threading.Event()

    def go_on() -> str:
        assert over.wait(BOUND)
        return "ended"

    def call(name: str) -> None:
        if name == late:
            outcomes.call(name, block if name == "main" else spin, 0.4)
            over.set()
        else:
            outcomes.call(name, go_on, 30.0)

    worker = threading.Thread(target=call, args=("worker",))
    worker.start()
    call("main")
    worker.join(BOUND)

    other = "worker" if late == "main" else "main"
    assert outcomes.of == {late: late, other: "ended"}
    assert outcomes.stray == {"main": [], "worker": []}


def test_watched_handler_in_nested_thread_is_its_own_invocation() -> None:
    """A watched handler in a thread of a watched handler times out by itself."""
    outcomes = Outcomes()

    def outer() -> str:
        inner = threading.Thread(target=outcomes.call, args=("inner", spin, 0.4))
        inner.start()
        inner.join(BOUND)
        return "ended"

    outcomes.call("outer", outer, 30.0)

    assert outcomes.of == {"inner": "inner", "outer": "ended"}
    assert outcomes.stray == {"inner": [], "outer": []}
