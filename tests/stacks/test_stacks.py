"""Each client is interrupted in time, sends its request once, and works in the next invocation."""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

from benchmarks.stacks.cases import load
from benchmarks.stacks.outcomes import Outcome, run
from benchmarks.stacks.servers import PACKAGES, PYTHON
from watchdog_lambda._engine.aftermath import recovering

CASES: Final = load()

RECOVERING: Final = {
    "aiobotocore": "aiobotocore, DynamoDB",
    "aiohttp": "aiohttp",
    "asyncpg": "asyncpg, its pool",
    "botocore": "boto3, DynamoDB",
    "grpc": "grpcio",
    "httpcore": "httpx",
    "httpcore2": "OpenAI",
    "httpx": "httpx",
    "httpx2": "OpenAI",
    "pymongo": "pymongo",
    "redis": "redis",
    "requests": "requests",
    "urllib": "urllib.request",
    "urllib3": "urllib3",
    "valkey": "valkey",
}
"""The case that shows the recovery of each library that is known to recover."""


def outcomes(name: str, way: str, ports: dict[str, int], *do: str) -> list[Outcome]:
    case = CASES[name]
    if case.server in PACKAGES and case.server not in ports:
        pytest.skip(f"{case.server} is not installed: apt-get install {PACKAGES[case.server][0]}")
    found = f"from importlib.util import find_spec as f; exit(f({case.library!r}) is None)"
    if case.library and subprocess.run([PYTHON, "-c", found], check=False).returncode:
        pytest.skip(f"{case.library} is not installed: dev.py stacks --install")
    return run(name, case.server, way, ports, *do)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.family != "computing"])
def test_client_that_hangs_is_interrupted_in_time(name: str, ports: dict[str, int]) -> None:
    """A client that hangs is interrupted in time.

    The defaults apply, with a limit of three seconds.
    """
    [told] = outcomes(name, "alone", ports, "hang")

    # The table has the delays; on a busy machine only the limit can be checked.
    assert told.late_ms is not None, "killed"
    assert told.sent <= 1, "sent again because of us"
    assert not told.said, told


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.family == "computing"])
def test_computing_client_is_answered_for_by_supervisor(name: str, ports: dict[str, int]) -> None:
    """A client that computes is answered for in time by a supervisor.

    A new process serves the next event.
    """
    [told] = outcomes(name, "supervise", ports, "hang")

    assert told.late_ms is not None, "killed"
    assert not told.said, told


def test_every_recovering_library_has_a_case() -> None:
    """Each library that is known to recover has a case here, so that the table is tested."""
    assert set(RECOVERING) == recovering


@pytest.mark.parametrize("name", sorted(set(RECOVERING.values())))
def test_library_recovers_wherever_the_interrupt_lands(name: str, ports: dict[str, int]) -> None:
    """A library recovers wherever the interrupt lands.

    The process is kept, with quick calls in a row until it lands, while others compute.
    """
    for told in outcomes(name, "kept", ports, "hang", "busy", "busy", "busy"):
        assert not told.said, told
        assert told.sent <= 1, told
        assert not told.is_anew
