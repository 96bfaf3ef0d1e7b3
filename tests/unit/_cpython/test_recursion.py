"""The recursion depth that is added for decisions in a deep handler."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from watchdog_lambda._cpython.recursion import ROOM, Room

if TYPE_CHECKING:
    import pytest


def test_simultaneous_timeouts_restore_the_limit() -> None:
    """Two timeouts at the same time each add room, and leave the limit as it was."""
    limit, first, second = sys.getrecursionlimit(), Room(), Room()
    first.add()
    second.add()
    assert sys.getrecursionlimit() == limit + 2 * ROOM

    first.remove()
    assert sys.getrecursionlimit() == limit + ROOM
    second.remove()
    assert sys.getrecursionlimit() == limit


def test_room_is_added_and_removed_once() -> None:
    """A stage that is begun again after a MemoryError adds no more room, and settle may repeat."""
    limit, room = sys.getrecursionlimit(), Room()
    room.remove()
    room.add()
    room.add()
    assert sys.getrecursionlimit() == limit + ROOM

    room.remove()
    room.remove()
    assert sys.getrecursionlimit() == limit


def test_remove_ignores_recursion_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``remove`` ignores the RecursionError of a thread too deep for the lower limit."""
    limit, room = sys.getrecursionlimit(), Room()
    room.add()

    def refuse(_limit: int) -> None:
        raise RecursionError

    with monkeypatch.context() as patch:
        patch.setattr(sys, "setrecursionlimit", refuse)
        room.remove()
    assert sys.getrecursionlimit() == limit + ROOM
    sys.setrecursionlimit(limit)
