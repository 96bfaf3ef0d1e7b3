"""Loops whose ``finally`` CPython would skip (gh-130279, gh-108214), really interrupted."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import Context
from watchdog_lambda import LambdaTimeout, watch

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5

cleaned: list[int] = []


def calls(_event: object, _context: object) -> None:
    until = time.perf_counter() + 10.0
    try:
        while time.perf_counter() < until:
            pass
    finally:
        cleaned.append(1)


def counts(_event: object, _context: object) -> None:
    number = 0
    try:
        while True:
            number += 1
    finally:
        cleaned.append(1)


# fmt: off
def counts_on_one_line(_event: object, _context: object) -> None:
    number = 0
    try:
        while True: number += 1  # noqa: E701
    finally:
        cleaned.append(1)
# fmt: on


def does_nothing(_event: object, _context: object) -> None:
    try:
        while True:
            pass
    finally:
        cleaned.append(1)


def several_lines(_event: object, _context: object) -> None:
    number = 0
    try:
        while True:
            number += 1
            number -= 1
    finally:
        cleaned.append(1)


def in_a_with(_event: object, _context: object) -> None:
    number = 0
    lock = threading.Lock()
    with lock, pytest.MonkeyPatch.context():
        try:
            while lock.locked():
                number += 1
        finally:
            cleaned.append(1)


def branches(_event: object, _context: object) -> None:
    number = 0
    until = time.perf_counter() + 10.0
    try:
        while time.perf_counter() < until:
            number += 1
            if number < 0:
                cleaned.append(number)
    finally:
        cleaned.append(1)


def iterates(_event: object, _context: object) -> None:
    try:
        for _ in iter(int, 1):
            pass
    finally:
        cleaned.append(1)


@pytest.mark.untraced
@pytest.mark.parametrize(
    "loop",
    [calls, counts, counts_on_one_line, does_nothing, several_lines, in_a_with, branches, iterates],
    ids=lambda f: f.__name__,
)
def test_tight_loop_is_interrupted_and_its_finally_runs(
    loop: Callable[[object, object], None],
) -> None:
    """Each timeout interrupts a tight loop, runs its ``finally`` and leaves no tracer."""
    cleaned.clear()
    watched = watch(grace_period=0.1)(loop)
    before = sys.gettrace()

    for _ in range(ROUNDS):
        with pytest.raises(LambdaTimeout):
            watched({}, Context(0.4))

    assert len(cleaned) == ROUNDS
    assert sys.gettrace() is before


def test_foreign_tracer_is_left_in_place() -> None:
    """Under a debugger or coverage tool the loop is interrupted, and the tool's tracer stays."""

    def tracer(_frame: object, _event: str, _argument: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        with pytest.raises(LambdaTimeout):
            watch(grace_period=0.1)(counts)({}, Context(0.5))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
