"""The recursion depth that is added for decisions in a deep handler."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from watchdog_lambda._cpython.recursion import ROOM, add_room, remove_room

if TYPE_CHECKING:
    import pytest


def test_two_timeouts_at_the_same_time_leave_the_limit_as_it_was() -> None:
    """Two timeouts at the same time each add room, and leave the limit as it was."""
    limit = sys.getrecursionlimit()
    add_room()
    add_room()
    assert sys.getrecursionlimit() == limit + 2 * ROOM

    remove_room()
    remove_room()
    assert sys.getrecursionlimit() == limit


def test_who_is_too_deep_for_the_lower_limit_keeps_the_higher_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``remove_room`` ignores the RecursionError of a thread too deep for the lower limit."""

    def refuse(_limit: int) -> None:
        raise RecursionError

    monkeypatch.setattr(sys, "setrecursionlimit", refuse)
    remove_room()
