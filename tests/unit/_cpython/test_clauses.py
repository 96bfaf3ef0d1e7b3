"""What a frame's except clauses do with an exception, read from its bytecode."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.frames import innermost, made
from watchdog_lambda import Interrupt, LambdaTimeout
from watchdog_lambda._cpython.clauses import (
    PASSES,
    RAISED_ON,
    SUPPRESSED,
    TAKEN,
    comes_again,
    fate,
    is_handling,
)
from watchdog_lambda.errors import LoopInterrupt

if TYPE_CHECKING:
    from types import FrameType


class Swallows:
    """A manager that may suppress an exception, as its code says."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *given: object) -> bool:
        return len(given) > 5


class PassesThrough:
    """A manager that suppresses nothing."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        return None


class UsesConstant:
    """A manager that suppresses nothing, but whose exit uses a constant."""

    def __init__(self) -> None:
        self.left = 0

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        self.left = 1


NAMES: dict[str, Any] = {
    "notes": UsesConstant,
    "network": SimpleNamespace(faults=(ConnectionError, TimeoutError)),
    "FAULTS": (KeyError, (OSError, ValueError)),
    "swallows": Swallows,
    "lets_pass": PassesThrough,
    "lock": threading.Lock(),
}


def fates(body: str) -> list[str]:
    """Return the fate of each kind of interrupt in a function with that body."""
    source = "def call(back):\n" + "\n".join(f"    {line}" for line in body.splitlines())

    def look(frame: FrameType) -> list[str]:
        return [fate(frame, kind) for kind in (LambdaTimeout, Interrupt, LoopInterrupt)]

    [said] = innermost(look, made(source, **NAMES))
    return list(said)


ALL_PASS, NONE_PASSES = [PASSES] * 3, [TAKEN] * 3


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("back()", ALL_PASS),
        ("try: back()\nexcept KeyError: pass", ALL_PASS),
        ("try: back()\nexcept TimeoutError: pass", [TAKEN, PASSES, PASSES]),
        ("try: back()\nexcept OSError as e: raise KeyError from e", [TAKEN, PASSES, PASSES]),
        ("try: back()\nexcept Exception: return 1", [TAKEN, PASSES, PASSES]),
        ("try: back()\nexcept BaseException: pass", NONE_PASSES),
        ("try: back()\nexcept: back = 1", NONE_PASSES),
        ("try: back()\nexcept KeyboardInterrupt: pass", [PASSES, PASSES, TAKEN]),
        ("try: back()\nexcept FAULTS: pass", [TAKEN, PASSES, PASSES]),
        ("try: back()\nexcept network.faults: pass", [TAKEN, PASSES, PASSES]),
        ("try: back()\nexcept (KeyError, OSError): pass", [TAKEN, PASSES, PASSES]),
        ("faults = OSError\ntry: back()\nexcept faults: pass", [TAKEN, PASSES, PASSES]),
        ("try: back()\nexcept KeyError: pass\nexcept OSError: pass", [TAKEN, PASSES, PASSES]),
        # The handler neither raises nor ends.
        ("try: back()\nexcept OSError:\n  while True: print()", [TAKEN, PASSES, PASSES]),
        (
            "while True:\n  try:\n    back()\n    break\n  except OSError: pass",
            [TAKEN, *[PASSES] * 2],
        ),
    ],
)
def test_clause_that_continues_takes_the_exception(body: str, expected: list[str]) -> None:
    """A clause takes an exception if it goes on, or raises an error of its own."""
    assert fates(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("try: back()\nexcept OSError: raise", [RAISED_ON, PASSES, PASSES]),
        ("try: back()\nexcept OSError as e:\n  print(e)\n  raise", [RAISED_ON, PASSES, PASSES]),
        ("try: back()\nexcept: raise", [RAISED_ON] * 3),
        ("try: back()\nexcept KeyboardInterrupt: raise", [PASSES, PASSES, RAISED_ON]),
        (
            "try: back()\nexcept OSError:\n  for n in ():\n    print(n)\n  raise",
            [RAISED_ON, *[PASSES] * 2],
        ),
        (
            "try: back()\nexcept OSError:\n  try: print()\n  except KeyError: pass\n  raise",
            [RAISED_ON, PASSES, PASSES],
        ),
        (
            "try:\n  try: back()\n  except OSError: raise\nexcept BaseException: pass",
            NONE_PASSES,
        ),
    ],
)
def test_clause_that_reraises_passes_the_exception(body: str, expected: list[str]) -> None:
    """A clause that only cleans up raises the exception on, to the next one around it."""
    assert fates(body) == expected


@pytest.mark.parametrize("condition", ["if back: raise", "raise e.__class__('again')"])
def test_clause_with_conditional_reraise_takes_the_exception(condition: str) -> None:
    """A clause that may not raise the same exception on counts as taking it.

    It may retry, or raise it as another error.
    """
    assert fates(f"try: back()\nexcept OSError as e:\n  {condition}") == [TAKEN, PASSES, PASSES]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("try: back()\nfinally: print()", ALL_PASS),
        ("try: back()\nfinally:\n  if not back: print()", ALL_PASS),
        ("with lock: back()", ALL_PASS),
        ("manager = lets_pass()\nwith manager: back()", ALL_PASS),
        ("with swallows(): back()", ALL_PASS),
        # A manager that was used before does not tell what the block's own manager does.
        ("other = swallows()\nprint(other)\nwith lets_pass(): back()", ALL_PASS),
        ("manager = notes()\nwith manager: back()", ALL_PASS),
        ("manager = swallows()\nwith manager: back()", [SUPPRESSED] * 3),
        ("manager = swallows()\nwith manager as value, lock: back()", [SUPPRESSED] * 3),
    ],
)
def test_finally_and_with_pass_the_exception(body: str, expected: list[str]) -> None:
    """A ``finally`` or ``with`` lets an exception pass, unless its manager may suppress it."""
    assert fates(body) == expected


@pytest.mark.parametrize(("handlers", "expected"), [(49, RAISED_ON), (50, TAKEN)])
def test_number_of_followed_handlers_is_limited(handlers: int, expected: str) -> None:
    """Handlers are followed up to a limit; an exception raised on more often counts as taken."""
    # The compiler adds a handler to each clause, and another one to each that has a name.
    named = handlers - 2 * 18
    body = "back()"
    for level in range(18):
        clause = "OSError as e" if level < named else "OSError"
        body = "try:\n" + "\n".join(f" {line}" for line in body.splitlines())
        body += f"\nexcept {clause}: raise"

    assert fates(body)[0] == expected


def test_finally_that_returns_takes_the_exception() -> None:
    """A ``finally`` that returns takes the exception, as in Python."""
    source = "try: back()\nfinally:\n  if back: return 1"
    assert fates(source) == NONE_PASSES


@pytest.mark.parametrize(
    "clause", ["dict(a=OSError)['a']", "missing", "network.missing", "(missing, KeyError)"]
)
def test_unevaluable_clause_counts_as_taking(clause: str) -> None:
    """A clause that cannot be evaluated counts as taking the exception.

    A needless Interrupt does less harm than a request that is sent again.
    """
    assert fates(f"try: back()\nexcept {clause}: pass")[0] == TAKEN


def test_evaluating_a_clause_runs_no_code() -> None:
    """No code runs to evaluate a clause: a property in it is not called."""

    class Asked:
        @property
        def fault(self) -> type[BaseException]:
            raise AssertionError("the property was evaluated")

    def look(frame: FrameType) -> str:
        return fate(frame, LambdaTimeout)

    source = "def call(back):\n  try: back()\n  except asked.fault: pass"
    assert innermost(look, made(source, asked=Asked())) == [TAKEN]


def test_clause_is_evaluated_with_closures_and_arguments() -> None:
    """A clause is evaluated with closures and arguments, as backoff's decorator uses them."""
    source = """
    def decorate(faults):
        def call(back, more=KeyError):
            try: back()
            except faults: return 1
            except more: return 2
        return call
    call = decorate(OSError)
    """

    def look(frame: FrameType) -> list[str]:
        return [fate(frame, kind) for kind in (LambdaTimeout, Interrupt, KeyError)]

    assert innermost(look, made(source)) == [[TAKEN, PASSES, TAKEN]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("try: print()\nfinally: back()", False),
        ("try: 1 / 0\nexcept ArithmeticError: back()", True),
        ("try: 1 / 0\nexcept ArithmeticError as e: back()", True),
        ("try:\n  try: 1 / 0\n  finally: back()\nexcept ArithmeticError: pass", True),
        ("back()", False),
        ("try: back()\nexcept KeyError: pass", False),
    ],
)
def test_frame_handling_an_exception_is_recognised(body: str, *, expected: bool) -> None:
    """A frame is handling an exception in an ``except``, or a ``finally`` that one has led to."""
    source = "def call(back):\n" + "\n".join(f"    {line}" for line in body.splitlines())

    def look(frame: FrameType) -> bool:
        return is_handling(frame.f_code, frame.f_lasti)

    assert innermost(look, made(source)) == [expected]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("back()", False),
        ("for n in (1, 2): print(n)\nback()", False),
        ("while True:\n  back()\n  break", False),
        ("try: back()\nexcept OSError: print()", False),
        ("for n in (1,): back()", True),
        ("while True:\n  if not back(): break", True),
        ("while True:\n  try: return back()\n  except OSError: pass", True),
        ("try: back()\nexcept OSError: call(back)", True),
    ],
)
def test_call_that_may_be_repeated_is_recognised(body: str, *, expected: bool) -> None:
    """A call may be repeated by a loop around it, a retry after an error, or a recursive call."""
    source = "def call(back):\n" + "\n".join(f"    {line}" for line in body.splitlines())

    assert innermost(comes_again, made(source)) == [expected]


def test_instruction_before_a_loop_is_not_repeated() -> None:
    """An instruction right before a loop is not repeated, although the next one is."""
    said: list[bool] = []

    class Holder:
        def __setattr__(self, name: str, value: object) -> None:
            said.append(comes_again(sys._getframe(1)))

    made("""
    def call(holder):
        holder.value = 1
        while True:
            if holder: return
    """)(Holder())

    assert said == [False]


def test_await_is_not_taken_for_a_loop() -> None:
    """An ``await`` does not count as a loop, though the compiler makes one of it."""
    said: list[bool] = []

    async def awaited() -> None:
        said.append(comes_again(sys._getframe(1)))

    async def once() -> None:
        await awaited()

    async def several_times() -> None:
        for _ in range(1):
            await awaited()

    asyncio.run(once())
    asyncio.run(several_times())

    assert said == [False, True]
