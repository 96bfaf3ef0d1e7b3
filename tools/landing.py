"""Time out in loops that an interrupt can land wrongly in, and count what was left behind.

    python3 dev.py landing --rounds 200 --seconds 0.06 --interpreter 3.11 --interpreter 3.13
    python3 dev.py landing --loop path_exists

Exit status: 0 nothing was left behind, 1 something was. What last call has cut is counted apart, by
the timeouts' records: from then on an interrupt lands anywhere. On a busy machine many are cut.
"""

from __future__ import annotations

import collections
import subprocess
import sys
from typing import Any

from tools import ending
from tools.landing_loops import ASYNC_LOOPS, LOOPS, Loops
from watchdog_lambda import Interrupt, LambdaTimeout, _report, watch
from watchdog_lambda.testing import FakeContext

records: list[dict[str, Any]] = []  # of one timeout

_report.listeners.append(records.append)


def is_cut(record: dict[str, Any]) -> bool:
    """Whether last call has met the handler, or what was left in its event loop."""
    limit, grace = record["elapsed_ms"] + record["remaining_ms"], record["grace_period_ms"]
    last_call = limit - min(500, grace / 4) - 1  # all of them are rounded
    ended = record["ended_after_ms"] or limit
    return bool(ended >= last_call) or "did not end" in record.get("recycled", "")


def strike(name: str, seconds: float) -> tuple[list[str], bool]:
    """What one timeout has left behind, and whether last call has cut it."""
    loop = Loops()
    records.clear()
    if name in LOOPS:
        watched = watch(lambda _event, _context: LOOPS[name](loop))
    else:

        async def handler(_event: object, _context: object) -> None:
            await ASYNC_LOOPS[name](loop)

        watched = watch(handler)
    try:
        watched({}, FakeContext(seconds))
        loop.wrong.append("it has returned")
    except LambdaTimeout:
        pass
    except (Exception, Interrupt) as error:  # noqa: BLE001 - the very thing to find
        loop.wrong.append(f"{type(error).__name__}: {error}")
    return loop.verdict(), any(map(is_cut, records))


def main() -> int:
    """Every loop in turn, or those that are asked for."""
    parser = ending.parser("dev.py landing", __doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.06)
    parser.add_argument("--loop", action="append", choices=[*LOOPS, *ASYNC_LOOPS], default=[])
    parser.add_argument("--interpreter", action="append", default=[], help="instead of this one")
    options = parser.parse_args()
    if options.interpreter:
        loops = [f"--loop={name}" for name in options.loop]
        given = [f"--rounds={options.rounds}", f"--seconds={options.seconds}", *loops]
        commands = [[python, "-m", "tools.landing", *given] for python in options.interpreter]
        return max(subprocess.run(each, check=False).returncode for each in commands)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    total = 0
    for name in options.loop or [*LOOPS, *ASYNC_LOOPS]:
        found: collections.Counter[str] = collections.Counter()
        wrong = cut = 0
        for _ in range(options.rounds):
            verdict, was_cut = strike(name, options.seconds)
            wrong += bool(verdict) and not was_cut
            cut += bool(verdict) and was_cut
            found.update(verdict)
        total += wrong
        print(f"{name}: {wrong} of {options.rounds}, and {cut} that last call has cut")
        for what, count in found.items():
            print(f"    {count} x {what}")
    print("python", sys.version.split()[0], f"{options.seconds} s:", total, "wrong")
    return 1 if total else 0


if __name__ == "__main__":
    raise SystemExit(main())
