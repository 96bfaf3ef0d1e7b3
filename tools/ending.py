"""How a command that runs long ends: Ctrl-C and SIGTERM alike, with what it has started."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

SKIPPED: Final = 77
"""The exit status for "cannot run here", as automake and others have it."""

INTERRUPTED: Final = 130


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
