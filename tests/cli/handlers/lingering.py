"""A module whose import starts a thread that never ends."""

from __future__ import annotations

import threading

threading.Thread(target=threading.Event().wait).start()


def handler(_event: object, _context: object) -> None:
    """A handler that a check never calls."""
