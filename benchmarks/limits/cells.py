"""One run of one call in one way: a child process, watched from outside and ended in any case."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.children import Broken, Child

if TYPE_CHECKING:
    import threading

WINDOW: Final = 2.0
"""Seconds after it was due within which an interrupt counts."""

_SET_UP: Final = 60.0
"""Seconds for a child to get ready, on a busy machine."""


class Run(NamedTuple):
    """What one child came to. Milliseconds count from the instant the interrupt was due."""

    ms: float | None = None
    """When the handler saw the interrupt; None if it did not, within the window."""
    exception: str | None = None
    """As what it saw it, for libraries make their own of it."""
    hook_ms: float | None = None
    """When the shutdown hook ran; None if it did not."""
    outcome: str | None = None
    """What the watchdog's record says, if it was written."""
    notes: tuple[str, ...] = ()
    """What else the call has to say."""
    unavailable: str | None = None
    """Why the call cannot be made here."""


def run(python: str, name: str, way: str, stop: threading.Event) -> Run:
    """Make one call in a child of its own, and end that whatever comes of it.

    Raises:
        Broken: The call did not block, or failed by itself: the table cannot have it.
        Stopped: `stop` was set meanwhile.
    """
    with Child("limits.child", name, way, python=python) as child:
        told = _listen(child, stop)
        try:
            return read(told)
        except Broken as error:
            raise Broken(f"{name}, {way}: {error}\n{child.wrote}") from None


def _listen(child: Child, stop: threading.Event) -> list[dict[str, Any]]:
    """All that the child says, until it has ended or its time is up."""
    until = time.monotonic() + _SET_UP
    told: list[dict[str, Any]] = []
    with contextlib.suppress(Broken):
        while True:
            line = child.hear(until - time.monotonic(), stop)
            told.append(line)
            if line.get("told") == "due":
                until = line["at"] + WINDOW
            elif line.get("told") not in {"hook", None}:
                break
    return told


def read(told: list[dict[str, Any]]) -> Run:
    """What a child's lines come to; :class:`Broken` if it has no place in the table."""
    by_kind = {line.get("told", "record"): line for line in told}
    if "unavailable" in by_kind:
        return Run(unavailable=by_kind["unavailable"]["why"])
    if "due" not in by_kind:
        raise Broken("it did not get ready")
    if "failed" in by_kind:
        raise Broken(f"it failed by itself: {by_kind['failed']['why']}")
    due = by_kind["due"]["at"]
    if "returned" in by_kind:
        after = by_kind["returned"]["at"] - due
        raise Broken(f"it ended by itself, {after:.1f} s after an interrupt was due")

    def ms(kind: str) -> float | None:
        return round((by_kind[kind]["at"] - due) * 1000, 2) if kind in by_kind else None

    seen = by_kind.get("interrupted", {})
    return Run(
        ms=ms("interrupted"),
        exception=seen.get("exception"),
        hook_ms=ms("hook"),
        outcome=by_kind.get("record", {}).get("outcome"),
        notes=tuple(seen.get("notes", ())),
    )
