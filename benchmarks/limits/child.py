"""The process that is measured: makes one call, and has it ended in one way.

    python -m benchmarks.limits.child NAME WAY

It writes lines of JSON, each with the instant on the monotonic clock: ``due``, ``hook``, and how
the call ended: ``interrupted``, ``failed`` or ``returned``. The watchdog's record comes on a line
of its own. If the call cannot be interrupted there is no last line, and whoever started us ends us.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from typing import TYPE_CHECKING, NoReturn

import watchdog_lambda
from benchmarks.child import end_with_parent

from . import block_ways
from .calls import CALLS
from .registry import Unavailable
from .ways import WAYS

if TYPE_CHECKING:
    from .registry import Block

_MOST_CPU = 60  # seconds


def main(name: str, way: str) -> NoReturn:
    """Make the call; never returns, for what it has set going would hold it up."""
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU, _MOST_CPU))
    try:
        block = CALLS[name].prepare()
    except (Unavailable, ImportError) as error:
        tell("unavailable", why=str(error))
        os._exit(0)
    end = WAYS[way] if way in WAYS else block_ways.WAYS[way]
    end(lambda due: _run(block, due), tell)
    os._exit(1)


def _run(block: Block, due: float) -> NoReturn:
    tell("due", at=due)
    try:
        block()
    except BaseException as error:  # noqa: BLE001 - whatever lands
        at = time.monotonic()
        if at >= due and _is_of_the_timeout(error):
            notes = getattr(error, "__notes__", [])
            tell("interrupted", at=at, exception=type(error).__name__, notes=notes)
        else:
            tell("failed", at=at, why="".join(traceback.format_exception(error)))
    else:
        tell("returned")
    os._exit(0)


def _is_of_the_timeout(error: BaseException | None) -> bool:
    """Whether it is what was sent, or what a library has made of that."""
    while error is not None:
        if isinstance(error, TimeoutError | watchdog_lambda.Interrupt):
            return True
        if type(error).__name__.startswith(block_ways.FOREIGN):
            return True
        error = error.__cause__ or error.__context__
    return False


def tell(what: str, *, at: float | None = None, **more: object) -> None:
    """Write one line, at once and in one piece."""
    line = {"told": what, "at": time.monotonic() if at is None else at, **more}
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
