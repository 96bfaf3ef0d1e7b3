"""What the commands have in common: their parser, the interpreters they are given, their end."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final, NoReturn

SKIPPED: Final = 77
"""The exit status for "cannot run here", as automake and others have it."""

INTERRUPTED: Final = 130


def parser(prog: str, about: str | None, epilog: str = "") -> argparse.ArgumentParser:
    """The parser of a command, whose help is its module's docstring as it stands."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog, description=about, epilog=epilog, formatter_class=raw)


def look_at(given: str) -> tuple[str, str, str]:
    """An interpreter's path, its version (with its processor, if not ours), or why not."""
    path = shutil.which(given)
    if path is None:
        return given, "", "there is no such interpreter"
    ask = "import os, sys; print('%d.%d.%d' % sys.version_info[:3], os.uname().machine)"
    probe = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
    version = probe.stdout.strip().removesuffix(f" {os.uname().machine}")
    if probe.returncode != 0 or not version:
        return path, "", f"it does not start: {probe.stderr.strip()[-200:]}"
    if tuple(map(int, version.split(".")[:2])) < (3, 11):
        return path, version, f"Python 3.11 or later is needed, and this is {version}"
    return path, version, ""


def tell_progress(
    name: str, done: int, of: int, *, seconds: float, violations: int, to_go: float = float("inf")
) -> None:
    """Say on standard error how far a long run is; it has `to_go` seconds at the most."""
    rate = max(done, 1) / max(seconds, 0.001)
    to_go = max(0.0, min((of - done) / rate, to_go))
    print(
        f"{name}: {done:,} of {of:,}, {rate:.0f}/s, {to_go:,.0f} s to go, {violations} violations",
        file=sys.stderr,
        flush=True,
    )


def run(main: Callable[[], int], told: str, *numbers: signal.Signals) -> NoReturn:
    """Run a command and exit with its status; print `told` if it was interrupted.

    SIGTERM and the signals of these `numbers` count as Ctrl-C. A second one is ignored, so that the
    cleanup after the first, which is short, is complete.
    """
    ends = (signal.SIGINT, signal.SIGTERM, *numbers)

    def interrupted(_signum: int, _frame: object) -> NoReturn:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ends:
        signal.signal(number, interrupted)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print(told, file=sys.stderr)
        sys.exit(INTERRUPTED)
