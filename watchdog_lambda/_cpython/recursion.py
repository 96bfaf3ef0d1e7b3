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


def add_room() -> None:
    """Raise the limit. Thread: any."""
    sys.setrecursionlimit(sys.getrecursionlimit() + ROOM)


def remove_room() -> None:
    """Lower it again. It stays as it is, which is harmless, if the caller is too deep for that."""
    try:
        sys.setrecursionlimit(sys.getrecursionlimit() - ROOM)
    except RecursionError:
        pass
