"""Real clients on real servers: who is answered in time, and does the next call work?

    python3 dev.py stacks                  # all of them, as a table
    python3 dev.py stacks --docs           # and into docs/explanation/stacks.md
    python3 dev.py stacks --install        # install missing servers first (root, Debian)
    python3 dev.py stacks --only requests

Each case has a client that is made before the call, a call that hangs, and one that must work
afterwards in the same process. It runs in two ways: watched, with the defaults; and with the
SIGALRM recipe, a signal handler that raises TimeoutError.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from .cases import CASES
from .outcomes import ROOT, Outcome, run
from .servers import PACKAGES, available, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "explanation" / "stacks.md"
BEGIN, END = "<!-- table: made by dev.py stacks -->", "<!-- end of table -->"
HEAD: Final = """\
| client | watchdog-lambda | sent | next call | SIGALRM recipe | sent | next call |
|---|---|---:|---|---|---:|---|"""


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="dev.py stacks", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--only", action="append", default=[], help="a case, by its name")
    parser.add_argument("--docs", action="store_true", help="write the table into the page")
    parser.add_argument("--install", action="store_true", help="install missing servers (root)")
    options = parser.parse_args()
    if options.install:
        missing = [package for name, package in PACKAGES.items() if name not in available()]
        if missing:
            subprocess.run(["apt-get", "install", "-y", *missing], check=True)
    lines = [HEAD]
    print(HEAD, flush=True)
    for line in _lines(options.only or list(CASES)):
        print(line, flush=True)
        lines.append(line)
    if options.docs:
        _write(PAGE, "\n".join(lines))
    return 0


def _lines(names: list[str]) -> Iterator[str]:
    servers = available()
    with started(servers) as ports:
        for name in names:
            case = CASES[name]
            if case.server not in servers:
                print(f"LEFT OUT: {name}: there is no {case.server} here", file=sys.stderr)
                continue
            outcomes = [run(name, way, ports.get(case.server, 0)) for way in ("watchdog", "alarm")]
            yield f"| {name} | {' | '.join(map(_cells, outcomes))} |"


def _cells(outcome: Outcome | None) -> str:
    if outcome is None or not outcome.in_time:
        return "**killed** | - | -"
    sent = "-" if outcome.requests is None else str(outcome.requests)
    return f"{max(outcome.late_ms, 0)} ms | {sent} | {'works' if outcome.next else '**fails**'}"


def _write(page: Path, table: str) -> None:
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
