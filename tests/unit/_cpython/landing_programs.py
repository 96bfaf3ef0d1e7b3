"""Programs that enter, leave and clean up, made at random, and a judge of what they leave behind.

The judge knows nothing of the package. It reads a ledger in which each block writes down when it is
entered and when it is left: each that was entered is left once, in the order of nesting, each
``finally`` that has begun has come to its end, and every answer is true.
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

FILE = "made.py"
"""What the programs' code says it is from: the user's own."""

DEEPEST = 3

Ledger = list[tuple[str, int]]


def faults(ledger: Ledger) -> list[str]:
    """What is wrong with what a program has written down."""
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
    """One program, by its seed."""

    def __init__(self, seed: int, *, is_async: bool) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._numbers = iter(range(1, 1000))
        self._is_async = is_async
        head = "async def" if is_async else "def"
        lines = [f"{head} program():", *self._block(0, "    ")]
        self.source = "\n".join(lines) + "\n"
        self._code = compile(PRELUDE + self.source, FILE, "exec")

    def make(self, ledger: Ledger) -> Callable[[], Any]:
        """A fresh copy that writes into this ledger."""
        namespace: dict[str, Any] = {
            "note": ledger.append,
            "contextlib": contextlib,
            "os": os,
            "drive": drive,
        }
        exec(self._code, namespace)  # noqa: S102 - made above
        program = namespace["program"]
        return (lambda: drive(program())) if self._is_async else program

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
                kinds += ["async with", "await"] * 3
        kind = self._random.choice(kinds)
        if kind == "step":
            return [f"{indent}step({number})"]
        if kind == "await":
            return [f"{indent}await pause({number})"]
        if kind == "asks":
            return [f"{indent}if not os.path.exists('/'): note(('wrong', {number}))"]
        body = self._block(depth + 1, inner)
        bind = f" as x{number}" if self._random.random() < 0.5 else ""
        return {
            "with": [f"{indent}with Entered({number}){bind}:", *body],
            "async with": [f"{indent}async with Entered({number}){bind}:", *body],
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
        await pause(self.number)
        note(("enter", self.number))
        await pause(self.number)
    async def __aexit__(self, *_):
        await pause(self.number)
        note(("leave", self.number))
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
    def __init__(self, number):
        self.number = number
    def __await__(self):
        yield self.number
"""


def drive(coroutine: Generator[Any, None, None]) -> None:
    """Run a coroutine to its end, as a loop does."""
    with contextlib.suppress(StopIteration):
        while True:
            coroutine.send(None)


def programs(count: int, *, is_async: bool) -> Iterator[Program]:
    """The first `count`."""
    for seed in range(count):
        yield Program(seed, is_async=is_async)
