"""The ways to end a block, each as its library is meant to be used, with its defaults.

A process of it measures what a block costs that ends in time: the ways by turns, by the time of
the whole process, for some work on a thread of their own.
"""

from __future__ import annotations

import signal
import statistics
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from benchmarks.child import Channel
from watchdog_lambda import time_limit

from .ways import DUE_AFTER, Run, Tell

Call = Callable[[Callable[[], Any]], Any]
"""Calls a function in a block that has its limit."""

_LONG: Final = 60.0
_ROUNDS: Final = 15
_BLOCKS: Final = 200


class Way(NamedTuple):
    title: str
    call: Callable[[float], Call]
    """What calls a function in a block of so many seconds; libraries are imported here."""

    def __call__(self, run: Run, tell: Tell) -> None:
        """Have a blocking call ended, as the others in ``ways`` do."""
        call = self.call(DUE_AFTER)
        due = time.monotonic() + DUE_AFTER
        try:
            call(lambda: run(due))
        finally:
            # The call goes on in a thread of its own, and may see its interrupt there.
            tell("hook")
            time.sleep(_LONG)


def _ours(seconds: float) -> Call:
    def call(function: Callable[[], Any]) -> Any:
        with time_limit(seconds):
            return function()

    return call


def _alarm(seconds: float) -> Call:
    def expired(_signum: int, _frame: object) -> None:
        raise TimeoutError

    def call(function: Callable[[], Any]) -> Any:
        before = signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return function()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return call


def _stopit(seconds: float) -> Call:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources
        import stopit  # noqa: PLC0415 - each has a process to itself

    def call(function: Callable[[], Any]) -> Any:
        with stopit.ThreadingTimeout(seconds, swallow_exc=False):
            return function()

    return call


def _func_timeout(seconds: float) -> Call:
    from func_timeout import func_timeout  # noqa: PLC0415

    return lambda function: func_timeout(seconds, function)


def _timeout_decorator(seconds: float) -> Call:
    import timeout_decorator  # noqa: PLC0415

    return lambda function: timeout_decorator.timeout(seconds)(function)()


def _wrapt(seconds: float) -> Call:
    from wrapt_timeout_decorator import timeout  # noqa: PLC0415

    return lambda function: timeout(seconds)(function)()


WAYS: Final = {
    "time_limit": Way("`time_limit`", _ours),
    "alarm-block": Way("`signal.setitimer`, a handler that raises", _alarm),
    "stopit": Way("stopit, `ThreadingTimeout`", _stopit),
    "func_timeout": Way("func_timeout", _func_timeout),
    "timeout-decorator": Way("timeout-decorator", _timeout_decorator),
    "wrapt": Way("wrapt-timeout-decorator", _wrapt),
}

FOREIGN: Final = ("TimeoutException", "FunctionTimedOut", "TimeoutError")
"""How the names begin of what these raise; not all are Python's TimeoutError."""


def main() -> None:
    channel = Channel()
    started = 0

    start = threading.Thread.start

    def count(thread: threading.Thread) -> None:
        nonlocal started
        started += 1
        start(thread)

    calls = {name: way.call(_LONG) for name, way in WAYS.items()}
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    takes: dict[str, str] = {}
    for name, call in calls.items():
        before = signal.getsignal(signal.SIGALRM)
        takes[name] = "SIGALRM" if call(_handles_alarm) is not before else ""
    threading.Thread.start = count  # type: ignore[method-assign,assignment]
    threads: dict[str, float] = {}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            before_threads, began = started, time.process_time()
            for _ in range(_BLOCKS):
                call(_nothing)
            spent[name].append((time.process_time() - began) / _BLOCKS)
            threads[name] = (started - before_threads) / _BLOCKS
    for name in WAYS:
        us = statistics.median(spent[name]) * 1e6
        channel.tell(way=name, us=round(us, 2), threads=threads[name], takes=takes[name])


def _handles_alarm() -> object:
    return signal.getsignal(signal.SIGALRM)


def _nothing() -> None:
    """End in time."""
