"""Each client is out in time, has sent its request once, and works in the next invocation."""

from __future__ import annotations

import pytest

from benchmarks.stacks.cases import CASES
from benchmarks.stacks.outcomes import Outcome, run
from benchmarks.stacks.servers import PACKAGES
from watchdog_lambda._engine.aftermath import recovering

MOST_LATE_MS = 400
"""Of what begins its wait anew after every signal; measured were 250 and less."""

SLOWER = {"boto3, an S3 download": 560}
"""An end that waits gets half of the time until last call, which comes at 562 ms."""

BROKEN = {"psycopg2, a bare connection"}
"""What was severed: a supervisor replaces such a process, see tests/runtime/test_recycle.py."""

RECOVERING = {
    "botocore": "boto3, DynamoDB",
    "httpcore": "httpx",
    "httpx": "httpx",
    "redis": "redis",
    "requests": "requests",
    "urllib3": "urllib3",
}
"""For each library that is known to recover, the case that shows it."""


def outcome(name: str, way: str, ports: dict[str, int]) -> Outcome:
    server = CASES[name].server
    if server in PACKAGES and server not in ports:
        pytest.skip(f"there is no {server} here: apt-get install {PACKAGES[server]}")
    told = run(name, way, ports.get(server, 0))
    assert told is not None, "killed"
    assert told.in_time, told
    return told


@pytest.mark.parametrize("name", CASES)
def test_a_client_that_hangs(name: str, ports: dict[str, int]) -> None:
    """The defaults, and a limit of three seconds."""
    told = outcome(name, "watchdog", ports)

    assert told.late_ms <= SLOWER.get(name, MOST_LATE_MS), told
    assert told.requests in {None, 1}, "sent again because of us"
    assert told.next == (name not in BROKEN), told
    assert told.how in {"LambdaTimeout", "QueryCanceledError", "QueryCanceled", "OperationalError"}


def test_each_library_that_is_known_to_recover_has_a_case() -> None:
    """The table is no guess."""
    assert set(RECOVERING) == recovering


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("name", sorted(set(RECOVERING.values())))
def test_a_library_recovers_wherever_the_interrupt_lands(
    name: str,
    attempt: int,
    ports: dict[str, int],
) -> None:
    """With quick calls in a row until it does."""
    assert outcome(name, "busy", ports).next
