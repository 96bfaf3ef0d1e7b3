"""The function: one client, made at the init, and what an event has it do.

The events are ``{"do": "ask", "n": 7}``, ``{"do": "hang"}``, and ``{"do": "busy", "n": 100}``: asks
in a row, while another thread of the process computes, so that the interrupt lands anywhere in the
library. With ``STACKS_WAY=alarm`` the handler is wrapped in the recipe: a SIGALRM handler that
raises TimeoutError.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import threading
from importlib import import_module
from itertools import count
from types import FrameType
from typing import Any, NoReturn

from benchmarks.stacks.cases import CASES, At, load

load()
case = CASES[os.environ["STACKS_CASE"]]
library = import_module(case.library) if case.library else None
computes = threading.Event()
calls: list[Any] = []
told: dict[str, Any] = {}
life = os.urandom(8).hex()
"""Another one in each process that takes this one's place."""


def compute() -> None:
    """As a library's thread, or one of the handler's module, may at any time."""
    while computes.wait():
        sum(range(1000))


def take(made: Any) -> None:
    """Take what a case has made; without a slow call of its own, its server is to be slow."""
    told.update(life=life, is_held=not isinstance(made, tuple))
    calls.extend(made if isinstance(made, tuple) else (made, lambda: made(0)))


def plain(event: dict[str, Any], _context: object) -> dict[str, Any]:
    ask, hang = calls
    with busy(event):
        for n in numbers(event):
            if (answer := ask(n)) != n:
                return {"errorType": "WrongAnswer", "errorMessage": f"{answer!r} for {n}"}
        return {"answer": hang() if event["do"] == "hang" else n, **told}


async def coroutine(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """One with a client that is awaited, and made in the first invocation."""
    if not calls:
        made = case.make(library, At.from_environ())
        take(await made if inspect.isawaitable(made) else made)
    ask, hang = calls
    with busy(event):
        for n in numbers(event):
            if (answer := await ask(n)) != n:
                return {"errorType": "WrongAnswer", "errorMessage": f"{answer!r} for {n}"}
        return {"answer": await hang() if event["do"] == "hang" else n, **told}


class busy:  # noqa: N801 - used like a function
    """Whether the other thread computes."""

    def __init__(self, event: dict[str, Any]) -> None:
        self._is_on = event["do"] == "busy"

    def __enter__(self) -> None:
        if self._is_on:
            computes.set()

    def __exit__(self, *_: object) -> None:
        computes.clear()


def numbers(event: dict[str, Any]) -> Any:
    if event["do"] == "hang":
        return ()
    return count(event["n"]) if event["do"] == "busy" else (event["n"],)


def recipe(handler: Any) -> Any:
    """What users do without this package."""

    def ring(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    loop = asyncio.new_event_loop() if case.is_async else None

    def wrapper(event: Any, context: Any) -> Any:
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, float(os.environ["STACKS_ALARM"]))
        try:
            made = handler(event, context)
            return made if loop is None else loop.run_until_complete(made)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    return wrapper


handler: Any = coroutine if case.is_async else plain
if not case.is_async:
    take(case.make(library, At.from_environ()))
if os.environ["STACKS_WAY"] == "alarm":
    handler = recipe(handler)
sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
threading.Thread(target=compute, name="computing", daemon=True).start()
