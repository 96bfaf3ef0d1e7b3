"""Which cleanups only wait, and which do something or are the user's."""

from __future__ import annotations

import threading
from _thread import get_native_id
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.frames import LIBRARY, OWN, innermost, made
from watchdog_lambda._cpython import syscalls
from watchdog_lambda._cpython.source import SourceMap
from watchdog_lambda._cpython.waits import LOOKS, AtRest, waits_in_cleanup, waits_in_exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

CODE = SourceMap(["/opt/app"])
JOIN = made("def call(back): back()", file=threading.__file__)
PLAIN = "def call(back): back()"
LEAVES = """
class Pool:
    def __init__(self, back): self.back = back
    def __enter__(self): pass
    def __exit__(self, *_): self.back()

def call(back):
    with Pool(back): pass
"""
FINALLY = """
def call(back):
    try:
        try: 1 / 0
        finally: back()
    except ArithmeticError: pass
"""


def waits(*calls: Callable[..., Any]) -> bool:
    def look(frame: FrameType) -> bool:
        return waits_in_cleanup(frame, CODE)

    [said] = innermost(look, *calls)
    return bool(said)


@pytest.mark.parametrize("end", [LEAVES, FINALLY], ids=["__exit__", "finally"])
def test_library_exit_that_joins_is_a_wait(end: str) -> None:
    """A library's ``__exit__`` or ``finally`` that joins a thread is a wait.

    Functions of the library may be in between.
    """
    own = made(PLAIN, file=OWN)

    assert waits(own, made(end, file=LIBRARY), JOIN)
    assert waits(own, made(end, file=LIBRARY), made(PLAIN, file=LIBRARY), JOIN)


def test_other_exits_are_cleanups() -> None:
    """A cleanup that does something, or that is the user's, is not a wait."""
    own, library = made(PLAIN, file=OWN), made(PLAIN, file=LIBRARY)

    assert not waits(own, made(LEAVES, file=LIBRARY), library)
    assert not waits(made(FINALLY, file=OWN), library, JOIN)
    assert not waits(made(LEAVES, file=OWN), library, JOIN)
    assert not waits(own, library, JOIN)


def test_exit_on_another_thread_is_recognised_by_name() -> None:
    """For another thread ``__exit__`` is recognised by name, as frames cannot be walked."""
    join, end = (threading.__file__, 1, "join"), (LIBRARY, 1, "__exit__")

    assert waits_in_exit([join, (LIBRARY, 1, "shutdown"), end, (OWN, 1, "h")], CODE)
    assert not waits_in_exit([join, (OWN, 1, "close"), end], CODE)
    assert not waits_in_exit([join, (OWN, 1, "h")], CODE)
    assert not waits_in_exit([(LIBRARY, 1, "flush"), end], CODE)
    assert not waits_in_exit([], CODE)
    assert not waits_in_exit([join, (LIBRARY, 1, "shutdown")], CODE)


def test_computing_thread_restarts_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that computes restarts the count of looks, except the thread that looks."""
    states = {get_native_id(): "R", -1: "S"}
    monkeypatch.setattr(syscalls, "threads", lambda: list(states))
    monkeypatch.setattr(syscalls, "state_of", lambda native_id: states[native_id])
    at_rest = AtRest()

    looks = [at_rest.is_certain() for _ in range(LOOKS)]
    states[-1] = "R"
    looks.append(at_rest.is_certain())
    states[-1] = "S"
    looks.append(at_rest.is_certain())

    assert looks == [*[False] * (LOOKS - 1), True, False, False]
