"""What a supervisor costs, and whether its answer is in time with a small function's processor.

    python3 dev.py supervisor                  # costs, pairs of runs with and without it
    python3 dev.py supervisor --quota 0.07     # a share of a processor (root, control groups)

Costs: processor time and memory of all of the function's processes when it asks for its first
event; what the stores around the runtime's client take; system calls of an invocation.

With a quota: handlers that hold the GIL to the end, waiting or computing, at several timeouts; how
many of them were answered before the hard deadline, and how long before it.
"""

from __future__ import annotations

import compileall
import contextlib
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.quota import NO_QUOTA, quota
from tests.runtime.runtime_api import RuntimeApi
from tools import ROOT, descendants, ending, environment
from tools.function import running

HANDLER: Final = """
import ctypes

def handler(event, context):
    if event.get("do") == "wait":
        mutex, libc = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
    if event.get("do") == "compute":
        sum(range(10**12))
    return {}
"""
PLAIN: Final = "def handler(event, context):\n    return {}\n"
FORKED: Final = f"import os\nif os.fork():\n    os.wait()\n    os._exit(0)\n{PLAIN}"
PERIOD: Final = 100_000  # microseconds, the kernel's default
PAIRS: Final = 30
INVOCATIONS: Final = 100
TRIES: Final = 12


@contextlib.contextmanager
def function(
    api: RuntimeApi, mode: str, *before: str, handler: str = PLAIN
) -> Iterator[subprocess.Popen[bytes]]:
    """The function, asking for its first event; `before` is put in front of its command."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "app.py").write_text(handler, encoding="utf-8")
        settings = {
            "PYTHONPATH": os.pathsep.join([folder, str(ROOT)]),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "WATCHDOG_LAMBDA_LAST_RESORT": mode,
        }
        command = [*before, sys.executable, "-m", "watchdog_lambda", "app.handler"]
        with running(command, api.address, subprocess.DEVNULL, settings) as [process]:
            api.wait_for_pollers(1, within=60)
            yield process


def processor_ms(pid: int) -> float:
    """What a process has had of a processor, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e6


def memory_mb(pid: int) -> float:
    """Its share of the memory that it uses."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return int(found[0]) / 1024


def cold_starts() -> None:
    """Print what a cold start costs more with a supervisor, and with a bare fork, than without.

    The median of the pairs, and the difference of the least of each: other work on the machine adds
    to both, and takes nothing away.
    """
    compileall.compile_dir(ROOT / "watchdog_lambda", quiet=1)  # as it is where it is installed
    starts = ("report", PLAIN), ("supervise", PLAIN), ("report", FORKED)
    found: list[list[tuple[float, float]]] = [[] for _ in starts]
    for _ in range(PAIRS):
        for (mode, handler), costs in zip(starts, found, strict=True):
            with RuntimeApi(timeout=3) as api, function(api, mode, handler=handler) as process:
                pids = list(descendants(process.pid))
                time.sleep(0.05)
                costs.append((sum(map(processor_ms, pids)), sum(map(memory_mb, pids))))
    for number, name in enumerate(("ms of a processor", "MB")):
        without, *others = ([cost[number] for cost in costs] for costs in found)
        for what, with_it in zip(("a supervisor", "a bare fork"), others, strict=True):
            median = statistics.median(b - a for a, b in zip(without, with_it, strict=True))
            least = min(with_it) - min(without)
            print(f"cold start, {what}: {median:+.1f} {name} (least: {least:+.1f})")


STORES: Final = """
import sys, timeit
from awslambdaric import lambda_runtime_client as client
from watchdog_lambda._lambda.runtime_client import WatchedClient
from watchdog_lambda._lambda.shared_state import SharedState

class Bare:
    def wait_next_invocation(self): return request
    def post_invocation_result(self, invoke_id, result_data, content_type, invocation_id): pass
    def post_invocation_error(self, *arguments): pass
    def post_init_error(self, *arguments): pass

class Watched(Bare): pass

BODY = b'{"Records": [' + b'{"body": "X-Forwarded: 1", "at": "2026-11-28T20:00:00Z"}, ' * 20
client.BaseLambdaRuntimeClient = Watched
def calls(one):
    def call():
        request = one.wait_next_invocation()
        one.post_invocation_result(request.invoke_id, b"{}", "application/json", None)
    call()
    return call
WatchedClient(SharedState(), first=None, ring=lambda: None).install()
for body in (b"{}", BODY):
    request = client.InvocationRequest(
        invoke_id="8ecd63d4-0f49-4a14-8a8d-b57c05f1e63d", event_body=body,
        deadline_time_in_ms=1_800_000_000_000, invocation_id=None)
    tries = [[timeit.timeit(one, number=500) for one in map(calls, (Bare(), Watched()))]
             for _ in range(1000)]
    without, with_it = (min(each) / 500 * 1e6 for each in zip(*tries))
    print(f"an invocation of {len(body)} bytes: +{with_it - without:.2f} us")
"""


def stores() -> None:
    """Print what is added to an invocation."""
    subprocess.run([sys.executable, "-c", STORES], env=environment(), check=True)


def system_calls() -> None:
    """Print how many system calls an invocation makes, with and without."""
    for mode in ("report", "supervise"):
        counts: list[int] = []
        for number in (INVOCATIONS, INVOCATIONS * 2):
            with (
                tempfile.NamedTemporaryFile("r", encoding="utf-8") as log,
                RuntimeApi(timeout=30) as api,
            ):
                # Locks of C are waited for or not as the machine has it.
                trace = ("strace", "-f", "-qq", "-e", "trace=!futex", "-o", log.name)
                with function(api, mode, *trace):
                    for _ in range(number):
                        api.invoke({})
                        api.wait_for_pollers(1)
                counts.append(sum("resumed>" not in line for line in log))
        print(f"system calls of an invocation, {mode}: {(counts[1] - counts[0]) / INVOCATIONS:.2f}")


def in_time(share: float) -> int:
    """Print how many handlers that are stuck were answered before their hard deadline."""
    with quota(share, PERIOD) as held:
        if held is None:
            print(f"SKIPPED: {NO_QUOTA}", file=sys.stderr)
            return ending.SKIPPED
        for timeout, do in itertools.product((1.0, 3.0, 30.0), ("wait", "compute")):
            spare: list[float] = []
            with (
                RuntimeApi(timeout=timeout) as api,
                function(api, "supervise", handler=HANDLER) as process,
            ):
                for pid in descendants(process.pid):
                    held.members.write_text(str(pid), encoding="ascii")
                for _ in range(TRIES):
                    api.wait_for_pollers(1, within=60)
                    answer: Any = api.invoke({"do": do}, within=timeout + 30)
                    spare.append(timeout - answer.seconds)
            good = sum(each > 0 for each in spare)
            print(
                f"{share:.0%} of a processor, {timeout:g} s, {do}: {good} of {TRIES} in time, "
                f"{statistics.median(spare) * 1000:.0f} ms before the deadline "
                f"(least {min(spare) * 1000:.0f})",
                flush=True,
            )
    return 0


def main() -> int:
    """Run the command; the exit status."""
    parser = ending.parser("dev.py supervisor", __doc__)
    parser.add_argument("--quota", type=float)
    options = parser.parse_args()
    if options.quota:
        return in_time(options.quota)
    stores()
    system_calls()
    cold_starts()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
