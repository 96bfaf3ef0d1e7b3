"""Adds recursion depth for what runs inside of interrupted code.

A nudge's handler, a tap's event and a trace function run on top of the interrupted frame, which may
be as deep as the interpreter allows. It would get their RecursionError, which it has not caused,
and never the interrupt. So the limit is higher from a timeout on until the handler has ended.

The limit is one number for all threads. It is changed by a difference, so that two timeouts at the
same time leave it as it was.
"""

from __future__ import annotations

import sys

ROOM = 60
"""The additional depth: the frames of a decision, and up to 3.11 the calls from C code in them."""


class Room:
    """The additional depth of one timeout."""

    __slots__ = ("_is_added",)

    def __init__(self) -> None:
        self._is_added = False

    def add(self) -> None:
        """Raise the limit, unless this has been done. Thread: any, one at a time."""
        if not self._is_added:
            self._is_added = True
            sys.setrecursionlimit(sys.getrecursionlimit() + ROOM)

    def remove(self) -> None:
        """Lower the limit again, if it was raised. Thread: as for :meth:`add`.

        It stays as it is, which is harmless, if the caller is too deep for the lower one.
        """
        if self._is_added:
            self._is_added = False
            try:
                sys.setrecursionlimit(sys.getrecursionlimit() - ROOM)
            except RecursionError:
                pass
