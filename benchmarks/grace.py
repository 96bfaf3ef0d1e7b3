"""What a grace period has to hold, at the share of a processor that a small function has.

    python3 dev.py grace
    python3 dev.py grace --memory 128 --runs 3

Lambda gives a function a share of a processor that goes with its memory, and one whole processor at
1,769 MB. Here the function's process gets that share by a quota of the kernel's (cgroups; root),
from the handler's import on. It is run into its timeout by ``watchdog-lambda invoke``, waiting and
computing, and then cleans up: 2,000 records as JSON, compressed, and sent over the loopback.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.quota import NO_QUOTA, quota
from benchmarks.stacks.standins import Http
from tools import ROOT, ending

WHOLE: Final = 1769
"""MB of memory that come with one whole processor, as AWS documents it."""
MEMORY: Final = (128, 256, 512, 1024, WHOLE)
TIMEOUT: Final = 6
COLUMNS: Final = (
    "memory",
    "share of a processor",
    "interrupt lands in a wait",
    "in code that computes",
    "cleanup",
    "answer",
)

_APP: Final = """
import gzip, json, os, time, urllib.request

with open(os.environ["QUOTA"], "w") as members:
    members.write(str(os.getpid()))

RECORDS = [{"id": n, "name": f"order {n}", "price": n / 7, "tags": ["a", "b"]} for n in range(2000)]


def clean_up():
    body = gzip.compress(json.dumps(RECORDS).encode())
    urllib.request.urlopen(urllib.request.Request(os.environ["INTAKE"], body), timeout=5).read()


def handler(event, context):
    try:
        while event["computes"]:
            sum(range(1000))
        time.sleep(60)
    except TimeoutError:
        clean_up()
    return {}
"""


class Run(NamedTuple):
    """One timeout, in milliseconds."""

    landed: float
    """From when the interrupt was due until the handler saw it."""
    cleanup: float
    """The handler's, from then on."""
    answer: float
    """From the handler's end to the caller's answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ending.parser("dev.py grace", __doc__)
    parser.add_argument("--memory", type=int, action="append", metavar="MB")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---:|' * len(COLUMNS)}")
    for memory in options.memory or MEMORY:
        share = min(memory / WHOLE, 1.0)
        with quota(share) as held, _intake() as intake:
            if held is None:
                print(f"SKIPPED: {NO_QUOTA}", file=sys.stderr)
                return ending.SKIPPED
            runs = {
                computes: [_run(held.members, intake, computes) for _ in range(options.runs)]
                for computes in (False, True)
            }
        both = runs[False] + runs[True]
        cells = [
            *(_median_and_most([run.landed for run in each]) for each in runs.values()),
            _median_and_most([run.cleanup for run in both]),
            _median_and_most([run.answer for run in both]),
        ]
        print(f"| {memory} MB | {share:.0%} | {' | '.join(cells)} |", flush=True)
    return 0


def _median_and_most(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ms ({max(values):.0f})"


def _run(members: Path, intake: str, computes: bool) -> Run:  # noqa: FBT001 - as in the event
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "app.py").write_text(_APP, encoding="utf-8")
        command = [sys.executable, "-m", "watchdog_lambda.cli", "invoke", "app.handler", "--json"]
        command += ["--path", folder, "--timeout", str(TIMEOUT), "--emulator", "none"]
        command += ["--event", json.dumps({"computes": computes})]
        command += ["--env", f"QUOTA={members}", "--env", f"INTAKE={intake}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        [invocation] = json.loads(done.stdout)["invocations"]
        return times(invocation)
    except (ValueError, LookupError, TypeError) as error:
        raise RuntimeError(f"not a timeout that was caught:\n{done.stdout}{done.stderr}") from error


def times(invocation: dict[str, Any]) -> Run:
    record = invocation["record"]
    # The watchdog's clock starts a moment after the caller's; the hard deadline is the same.
    hard = record["elapsed_ms"] + record["remaining_ms"]
    answered = invocation["seconds"] * 1000 - (TIMEOUT * 1000 - hard)
    landed, ended = record["interrupts"][0]["landed_after_ms"], record["ended_after_ms"]
    return Run(landed - (hard - record["grace_period_ms"]), ended - landed, answered - ended)


@contextlib.contextmanager
def _intake() -> Iterator[str]:
    """A server on the loopback that takes what is posted; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Http) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
