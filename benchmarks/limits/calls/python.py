"""Python code that goes on and on."""

from __future__ import annotations

import copy
import csv
import importlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.limits.registry import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.limits.registry import Block

group = Group("Python code")


@group.call(quick=True)
def loop() -> Block:
    """`while True: pass`."""

    def block() -> None:
        while True:
            pass

    return block


@group.call()
def loop_of_calls() -> Block:
    """A loop that calls functions."""

    def block() -> None:
        for number in itertools.count():
            _square(number)

    return block


@group.call()
def loop_in_try() -> Block:
    """`try: while True: ...` with a `finally`."""

    def spin(cleaned: list[bool]) -> None:
        number = 0
        try:
            while True:
                number += 1
        finally:
            cleaned.append(True)

    def block() -> None:
        cleaned: list[bool] = []
        try:
            spin(cleaned)
        except BaseException as error:
            if not cleaned:
                error.add_note("the `finally` was skipped")
            raise

    return block


@group.call()
def comprehension() -> Block:
    """A generator expression without end."""
    return lambda: max(number & 1 for number in itertools.count())


@group.call()
def swallowing_loop() -> Block:
    """A loop with `except Exception: continue`."""

    def block() -> None:
        while True:
            try:
                for number in itertools.count():
                    _square(number)
            except Exception:  # noqa: BLE001, S112 - the mistake is the point
                continue

    return block


@group.call()
def finaliser() -> Block:
    """A `__del__` that computes."""

    class Late:
        def __del__(self) -> None:
            while True:
                _square(2)

    def block() -> None:
        late = Late()
        del late
        while True:  # the exception that ended it has been dropped
            pass

    return block


@group.call()
def slow_import() -> Block:
    """`import` of a module that sleeps."""
    Path("slow_module.py").write_text("import time\ntime.sleep(60)\n")
    sys.path.insert(0, str(Path.cwd()))
    return lambda: importlib.import_module("slow_module")


@group.call()
def deepcopy() -> Block:
    """`copy.deepcopy()` of something huge."""
    huge = [{"id": n, "tags": [n]} for n in range(700_000)]
    return lambda: copy.deepcopy(huge)


@group.call()
def csv_reader() -> Block:
    """`csv.reader()` of a generator without end."""

    def lines() -> Iterator[str]:
        while True:
            yield "1,2,3"

    return lambda: all(csv.reader(lines()))


def _square(number: int) -> int:
    return number * number
