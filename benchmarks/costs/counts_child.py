"""Make so many calls of one contender, and tell how often a thread was put to sleep meanwhile.

    python -m benchmarks.costs.counts_child NAME CALLS

With ``thread`` for a name: how often the watchdog's thread woke up.
"""

from __future__ import annotations

import math
import os
import re
import resource
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.child import Channel, end_with_parent
from watchdog_lambda import watch
from watchdog_lambda._process import process_watchdog

from .contenders import CONTENDERS, OURS, context
from .handlers import noop

if TYPE_CHECKING:
    from .handlers import Handler

_CONTEXTS = 1000
_BOUND = 10.0  # seconds


def main(name: str, calls: str) -> None:
    """Make them; one line when they are done."""
    end_with_parent()
    channel = Channel()
    if name == "thread":
        channel.tell(wake_ups=_wake_ups(int(calls)))
        return
    try:
        handler = CONTENDERS[name].wrap(noop)
    except ImportError as error:
        channel.tell(missing=str(error))
        return
    if name in OURS:
        _start_the_thread()
    _call(handler, 10)  # whatever starts at the first call has started
    before = resource.getrusage(resource.RUSAGE_SELF)
    _call(handler, int(calls))
    after = resource.getrusage(resource.RUSAGE_SELF)
    channel.tell(
        voluntary=after.ru_nvcsw - before.ru_nvcsw, forced=after.ru_nivcsw - before.ru_nivcsw
    )


def _wake_ups(calls: int) -> int | None:
    """How often the watchdog's thread woke up meanwhile; None where that cannot be told."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return None
    before = set(os.listdir(tasks))  # noqa: PTH208 - names are all that is wanted
    _start_the_thread()
    (new,) = set(os.listdir(tasks)) - before  # noqa: PTH208
    status = tasks / new / "status"
    first = _voluntary_switches(status)
    _call(watch(noop), calls)
    return _voluntary_switches(status) - first


def _start_the_thread() -> None:
    # By an invocation that it finds under way, so that it knows when to look next.
    watch(_takes_its_time)(None, context())


def _takes_its_time(_event: Any, _context: Any) -> None:
    """Until the thread sleeps; traced, or on a busy machine, that takes a while."""
    until = monotonic() + _BOUND
    while process_watchdog.wake_at == math.inf and monotonic() < until:
        sleep(0.01)
    sleep(0.05)


def _call(handler: Handler, calls: int) -> None:
    # As in Lambda, each invocation's deadline comes after the one before it.
    contexts = [context(later_ms=n) for n in range(_CONTEXTS)]
    for n in range(calls):
        handler(None, contexts[n * _CONTEXTS // calls])


def _voluntary_switches(status: Path) -> int:
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main(*sys.argv[1:])
