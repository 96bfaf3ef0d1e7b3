"""What the commands have in common: their arguments' parser, and how a long one ends."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

SKIPPED: Final = 77
"""The exit status for "cannot run here", as automake and others have it."""

INTERRUPTED: Final = 130


def parser(prog: str, about: str | None, epilog: str = "") -> argparse.ArgumentParser:
    """The parser of a command, whose help is its module's docstring as it stands."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog, description=about, epilog=epilog, formatter_class=raw)


def run(main: Callable[[], int], told: str, *numbers: signal.Signals) -> NoReturn:
    """Run a command to its end, and exit; `told` is said where it was interrupted.

    SIGTERM and the signals of these `numbers` count as Ctrl-C. Another one is ignored: what ends
    then is short, and must not be cut short.
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
