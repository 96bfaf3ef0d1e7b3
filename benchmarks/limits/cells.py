"""One run of one call in one way: a child process, watched from outside and ended in any case.

``python -m benchmarks.child limits.cells NAME WAY`` is the child. It writes lines of JSON, each
with the instant on the monotonic clock: ``due``, ``hook``, and how the call ended:
``interrupted``, ``failed`` or ``returned``. The watchdog's record comes on a line of its own. If
the call cannot be interrupted there is no last line, and the parent ends the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
import traceback
from typing import Any, Final, NamedTuple, NoReturn

from benchmarks.children import Broken, Child
from watchdog_lambda import Interrupt

from . import block_ways
from .calls import CALLS
from .registry import Block
from .ways import WAYS

WINDOW: Final = 2.0
"""Seconds after it was due within which an interrupt counts."""

_MOST_CPU: Final = 60
"""Seconds of processor time for a child."""

_SET_UP: Final = 60.0
"""Seconds for a child to get ready, on a busy machine."""


class Run(NamedTuple):
    """The result of one child. Milliseconds count from the instant the interrupt was due."""

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


def run(python: str, name: str, way: str) -> Run:
    """Make one call in a child of its own, which is ended in any case.

    Raises:
        Broken: The call did not block, or failed by itself: the table cannot have it.
    """
    with Child("limits.cells", name, way, python=python) as child:
        told = _listen(child)
        try:
            return read(told)
        except Broken as error:
            raise Broken(f"{name}, {way}: {error}\n{child.wrote}") from None


def _listen(child: Child) -> list[dict[str, Any]]:
    """All that the child says, until it has ended or its time is up."""
    until = time.monotonic() + _SET_UP
    told: list[dict[str, Any]] = []
    with contextlib.suppress(Broken):
        while True:
            line = child.hear(until - time.monotonic())
            told.append(line)
            if line.get("told") == "due":
                until = line["at"] + WINDOW
            elif line.get("told") not in {"hook", None}:
                break
    return told


def read(told: list[dict[str, Any]]) -> Run:
    """The result that a child's lines tell; :class:`Broken` if the table cannot have it."""
    by_kind = {line.get("told", "record"): line for line in told}
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


def main(name: str, way: str) -> NoReturn:
    """Make the call; never returns, because threads that it has started would hold it up."""
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU, _MOST_CPU))
    block = CALLS[name].prepare()
    end = WAYS[way] if way in WAYS else block_ways.WAYS[way]
    end(lambda due: _block(block, due), tell)
    os._exit(1)


def _block(block: Block, due: float) -> NoReturn:
    tell("due", at=due)
    try:
        block()
    except BaseException as error:  # noqa: BLE001 - whatever lands
        at = time.monotonic()
        if at >= due and _is_of_the_timeout(error):
            notes = getattr(error, "__notes__", [])
            tell("interrupted", at=at, exception=type(error).__name__, notes=notes)
        else:
            tell("failed", at=at, why="".join(traceback.format_exception(error)))
    else:
        tell("returned")
    os._exit(0)


def _is_of_the_timeout(error: BaseException | None) -> bool:
    """Whether it is what was sent, or what a library has made of that."""
    while error is not None:
        if isinstance(error, TimeoutError | Interrupt):
            return True
        if type(error).__name__.startswith(block_ways.FOREIGN):
            return True
        error = error.__cause__ or error.__context__
    return False


def tell(what: str, *, at: float | None = None, **more: object) -> None:
    """Write one line, at once and in one piece."""
    line = {"told": what, "at": time.monotonic() if at is None else at, **more}
    os.write(1, json.dumps(line).encode() + b"\n")
