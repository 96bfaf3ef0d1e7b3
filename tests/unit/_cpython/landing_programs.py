"""Random programs that enter, leave and clean up, and a check of what they leave behind.

The check does not depend on the package. It reads a ledger in which each block notes that it is
entered and left. Each block that was entered must be left once, in the order of nesting, each
``finally`` that has begun must reach its end, and every answer must be true. Code that runs in
parallel (tasks, generators that are left open) has no place in that order, so it notes a
``finally``. There are three kinds of programs: plain ones, coroutines driven by hand, and those
that ``asyncio.run`` runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

FILE = "made.py"
"""The file that the programs' code names, which counts as the user's own."""

DEEPEST = 3

Ledger = list[tuple[str, int]]


def faults(ledger: Ledger) -> list[str]:
    """Return what is wrong with a program's ledger."""
    found: list[str] = []
    open_blocks: list[int] = []
    begun: list[int] = []
    for what, number in ledger:
        if what == "enter":
            open_blocks.append(number)
        elif what == "leave":
            if not open_blocks or open_blocks.pop() != number:
                found.append(f"{number} left out of its turn")
        elif what == "finally":
            begun.append(number)
        elif what == "end":
            begun.remove(number)
        elif what == "wrong":
            found.append(f"a wrong answer ({number})")
    found += [f"{number} entered and not left" for number in open_blocks]
    found += [f"finally {number} not run to its end" for number in begun]
    return found


class Program:
    """One random program, made from a seed."""

    def __init__(self, seed: int, kind: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._numbers = iter(range(1, 1000))
        self._run = RUNS[kind]
        self._is_async = kind != "plain"
        self._has_loop = kind == "loop"
        head = "async def" if self._is_async else "def"
        lines = [f"{head} program():", *self._block(0, "    ")]
        self.source = "\n".join(lines) + "\n"
        self._code = compile(PRELUDE + self.source, FILE, "exec")

    def make(self, ledger: Ledger) -> Callable[[], Any]:
        """Compile a fresh copy that writes to this ledger."""
        namespace: dict[str, Any] = {
            "note": ledger.append,
            "contextlib": contextlib,
            "os": os,
            "asyncio": asyncio,
            "run": self._run,
            "drive": drive,
            "int_handler": lambda: signal.getsignal(signal.SIGINT),
        }
        exec(self._code, namespace)  # noqa: S102 - made above
        whole: Callable[[], Any] = namespace["whole"]
        return whole

    def _block(self, depth: int, indent: str) -> list[str]:
        lines: list[str] = []
        for _ in range(self._random.randint(1, 3 if depth == 0 else 2)):
            lines += self._statement(depth, indent)
        return lines

    def _statement(self, depth: int, indent: str) -> list[str]:
        number = next(self._numbers)
        inner = indent + "    "
        kinds = ["step", "asks"]
        if depth < DEEPEST:
            kinds += ["with", "stack", "managed", "acquired", "finally", "except", "for", "while"]
            kinds += ["called"]
            if self._is_async:
                kinds += ["async with", "await", "async stack"] * 2
            if self._has_loop:
                kinds += ["group", "gather", "timeout", "async for"] * 2
        kind = self._random.choice(kinds)
        if kind == "step":
            return [f"{indent}step({number})"]
        if kind == "await":
            return [f"{indent}await pause()"]
        if kind == "asks":
            return [f"{indent}if not os.path.exists('/'): note(('wrong', {number}))"]
        body = self._block(depth + 1, inner)
        bind = f" as x{number}" if self._random.random() < 0.5 else ""
        return {
            "with": [f"{indent}with Entered({number}){bind}:", *body],
            "async with": [f"{indent}async with Entered({number}){bind}:", *body],
            "async stack": [
                f"{indent}async with contextlib.AsyncExitStack() as stack{number}:",
                f"{inner}await stack{number}.enter_async_context(Entered({number}))",
                *body,
            ],
            "async for": [
                f"{indent}async for i{number} in values({number}):",
                *body,
                f"{inner}{self._random.choice(['pass', 'break'])}",
            ],
            "group": [
                f"{indent}async with asyncio.TaskGroup() as group{number}:",
                f"{inner}for _ in range(2): group{number}.create_task(task({number}))",
                *body,
            ],
            "gather": [f"{indent}await asyncio.gather(task({number}), task({number}))"],
            "timeout": [f"{indent}async with asyncio.timeout(60):", *body],
            "managed": [f"{indent}with managed({number}){bind}:", *body],
            "stack": [
                f"{indent}with contextlib.ExitStack() as stack{number}:",
                f"{inner}stack{number}.enter_context(Entered({number}))",
                *body,
            ],
            "acquired": [
                f"{indent}note(('enter', {number}))",
                f"{indent}try:",
                *body,
                f"{indent}finally:",
                f"{inner}note(('leave', {number}))",
            ],
            "finally": [
                f"{indent}try:",
                *body,
                f"{indent}finally:",
                f"{inner}note(('finally', {number}))",
                f"{inner}step({number})",
                f"{inner}note(('end', {number}))",
            ],
            "except": [
                f"{indent}try:",
                *body,
                f"{inner}raise ValueError({number})",
                f"{indent}except ValueError:",
                f"{inner}step({number})",
            ],
            "for": [f"{indent}for i{number} in range(2):", *body],
            "while": [
                f"{indent}n{number} = 0",
                f"{indent}while n{number} < 2:",
                f"{inner}n{number} += 1",
                *body,
                f"{inner}if n{number} == 1: {self._random.choice(['continue', 'break'])}",
            ],
            "called": [
                f"{indent}{'async ' * self._is_async}def f{number}():",
                *body,
                f"{inner}return {number}",
                f"{indent}x{number} = {'await ' * self._is_async}f{number}()",
            ],
        }[kind]


PRELUDE = """
class Entered:
    def __init__(self, number):
        self.number = number
    def __enter__(self):
        note(("enter", self.number))
    def __exit__(self, *_):
        step(self.number)
        note(("leave", self.number))
    async def __aenter__(self):
        await pause()
        note(("enter", self.number))
        if run is drive: await pause()  # a loop's task can be cancelled there
    async def __aexit__(self, *_):
        if run is drive: await pause()
        note(("leave", self.number))
        await pause()
@contextlib.contextmanager
def managed(number):
    note(("enter", number))
    try:
        yield number
    finally:
        step(number)
        note(("leave", number))
def step(number):
    return [number for _ in range(2)]
class pause:
    def __await__(self):
        yield
async def values(number):
    note(("finally", number))
    try:
        for value in range(2):
            await pause()
            yield value
    finally:
        step(number)
        note(("end", number))
        await pause()
async def task(number):
    note(("finally", number))
    try:
        await pause()
    finally:
        step(number)
        note(("end", number))
        await pause()
def whole():
    before = int_handler()
    try:
        run(program)
    finally:
        if int_handler() is not before: note(("wrong", 0))
"""


def drive(program: Callable[[], Generator[Any, None, None]]) -> None:
    """Run a coroutine to its end, as an event loop does."""
    coroutine = program()
    with contextlib.suppress(StopIteration):
        while True:
            coroutine.send(None)


RUNS: dict[str, Callable[[Any], object]] = {
    "plain": lambda program: program(),
    "coroutine": drive,
    "loop": lambda program: asyncio.run(program()),
}
"""The function that runs each kind of program."""


def programs(count: int, kind: str) -> Iterator[Program]:
    """Yield the programs of the first `count` seeds."""
    for seed in range(count):
        yield Program(seed, kind)
