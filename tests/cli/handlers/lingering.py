"""Starts a thread at its import that never ends."""

from __future__ import annotations

import threading

threading.Thread(target=threading.Event().wait).start()


def handler(_event: object, _context: object) -> None:
    """Never called by a check."""
