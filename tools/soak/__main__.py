"""The race at an invocation's end, in numbers: handlers that end just when the watchdog acts.

    python3 dev.py soak                                 # 200,000 invocations for each delivery
    python3 dev.py soak --interpreter 3.11 --interpreter 3.13
    python3 dev.py soak --invocations 3000 --seed 7 --delivery injection --only spin
    python3 dev.py soak --full --jobs 4                 # 1,000,000 for each, on each interpreter

Each invocation takes some milliseconds and ends within about 60 us of one of the two instants that
matter: when the watchdog begins to act on it, and when it sends the interrupt. After each call:

* The caller has the result or error of this invocation's handler, or its ``LambdaTimeout``. A
  handler that got as far as its ``return`` or ``raise`` is never timed out: it stores a flag right
  before, and CPython has no check point between the two.
* Nothing lands between two calls, in the next one, or in a shield; no ``finally`` is skipped.
* A handler that does not end by itself is interrupted, and no call takes seconds.
* No shield stays up, the watchdog thread lives, and each timeout has one line in the log.

The seed fixes what is drawn (kinds, lengths, where each one aims), not what the machine makes of
it. Rows called "known" count what cannot be helped: an injection does not see where it lands.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from tools.soak.command import DELIVERIES, Command, parser

CAP: Final = 1800.0
_NO_CAP: Final = 10.0**7
FULL: Final = 1_000_000


def _at_least_one(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few: 1 or more")
    return number


def _parse() -> argparse.Namespace:
    own = parser("dev.py soak", __doc__)
    add = own.add_argument
    add("--invocations", type=_at_least_one, default=200_000, help="per cell (%(default)s)")
    about = "nudge: handlers on the main thread. injection: on another. (default: both)"
    add("--delivery", choices=(*DELIVERIES, "both"), default="both", help=about)
    about = f"end each cell after this long, with fewer invocations (default: {CAP:g})"
    add("--seconds-cap", type=float, metavar="S", help=about)
    about = "handlers of this kind only, by the name that violations give, or all that are called "
    about += "in blocks with a limit (blocks); may be given again"
    add("--only", action="append", default=[], metavar="KIND", help=about)
    about = "cells at a time; each takes half a core (default: %(default)s)"
    add("--jobs", type=_at_least_one, default=1, metavar="N", help=about)
    about = "write the result there as well, as JSON, with how close the ends came"
    add("--save", type=Path, metavar="FILE", help=about)
    about = f"{FULL:,} invocations per cell, without a cap on the time unless one is given"
    add("--full", action="store_true", help=about)
    options = own.parse_args()
    if options.full:
        options.invocations = FULL
        options.seconds_cap = options.seconds_cap or _NO_CAP
    options.seconds_cap = options.seconds_cap or CAP
    return options


if __name__ == "__main__":
    sys.exit(Command(_parse()).run())
