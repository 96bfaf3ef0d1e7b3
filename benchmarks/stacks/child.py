"""One case, run one way, in this process; what came of it is one line of JSON.

    python -m benchmarks.stacks.child CASE WAY PORT

`WAY` is ``watchdog``; ``busy``, the same with quick calls in a row, so that the interrupt lands
anywhere in the library; or ``alarm``, the recipe: a SIGALRM handler that raises TimeoutError.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

from benchmarks.stacks.cases import CASES
from benchmarks.stacks.servers import StandIn
from watchdog_lambda import watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

LIMIT: Final = 3.0
GRACE_PERIOD: Final = LIMIT / 4
_SENT_AGAIN_WITHIN: Final = 0.6
"""Seconds in which a request that is sent again has come."""


class Context:
    """A context whose hard deadline is in a while."""

    aws_request_id = "request-1"
    function_name = "orders"
    function_version = "1"

    def __init__(self) -> None:
        self._deadline = time.monotonic() + LIMIT

    def get_remaining_time_in_millis(self) -> float:
        """As Lambda's."""
        return (self._deadline - time.monotonic()) * 1000


def main(name: str, way: str, port: int) -> None:
    """Run it, and say what came of it."""
    case = CASES[name]
    stand_in = StandIn()
    if case.server in {"http", "silent"}:
        port = stand_in.port
    # One that takes the connection and says nothing, for what is not HTTP.
    slow, quick = case.make(port)
    if case.server != "silent":
        quick()  # what the first call loads and connects is no part of it
    if way == "busy":
        slow = _again_and_again(quick)
    stand_in.hangs = way != "busy"
    before = stand_in.requests
    began = time.monotonic()
    how = _call(slow, way)
    took = time.monotonic() - began
    time.sleep(_SENT_AGAIN_WITHIN)
    requests = stand_in.requests - before
    stand_in.hangs = False
    told = {
        "in_time": took < LIMIT,
        "late_ms": round((took - (LIMIT - GRACE_PERIOD)) * 1000),
        "how": how,
        "requests": requests if case.server == "http" and way != "busy" else None,
        "next": all(_works(quick) for _ in range(3)),
    }
    print(json.dumps({"stacks": told}), flush=True)


def _call(slow: Callable[[], object], way: str) -> str:
    """Make the call until its time is up; what the caller would get."""

    def handler(_event: object, _context: object) -> object:
        return slow()

    def ring(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    try:
        if way != "alarm":
            watch(handler)({}, Context())
        else:
            signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, LIMIT - GRACE_PERIOD)
            handler({}, None)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error).__name__
    return "returned"


def _again_and_again(quick: Callable[[], object]) -> Callable[[], object]:
    def calls() -> None:
        while True:
            quick()

    return calls


def _works(quick: Callable[[], object]) -> bool:
    with contextlib.suppress(Exception):
        return bool(quick())
    return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.stdout.flush()
    # Threads of clients would keep it from its end.
    import os

    os._exit(0)
