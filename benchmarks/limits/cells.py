"""One run of one call in one way: a child process, watched from outside and ended in any case."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.surroundings import environment

if TYPE_CHECKING:
    import threading

WINDOW: Final = 2.0
"""Seconds after it was due within which an interrupt counts."""

_SET_UP: Final = 60.0
"""Seconds for a child to get ready, on a busy machine."""

_LOOK: Final = 0.1
"""Seconds between looks at whether to stop."""


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


class Broken(Exception):
    """The call did not block, or failed by itself: the table cannot have it."""


class Stopped(Exception):
    """Whoever asked has changed their mind."""


def run(python: str, name: str, way: str, stop: threading.Event) -> Run:
    """Make one call in a child of its own, and end that whatever comes of it."""
    with tempfile.TemporaryDirectory(prefix="limits-") as folder:
        errors = Path(folder, "stderr")
        with errors.open("w") as stderr:
            child = subprocess.Popen(
                [python, "-m", "benchmarks.limits.child", name, way],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                env=environment(),
                # A group of its own, so that what the call starts can be ended with it.
                start_new_session=True,
            )
            try:
                told = _listen(child, stop)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                if child.stdout is not None:
                    child.stdout.close()
        try:
            return read(told)
        except Broken as error:
            raise Broken(f"{name}, {way}: {error}\n{errors.read_text()[-2000:]}") from None


def _listen(child: subprocess.Popen[bytes], stop: threading.Event) -> list[dict[str, Any]]:
    """All that the child says, until it has ended or its time is up."""
    if child.stdout is None:
        raise Broken("no pipe")
    until = time.monotonic() + _SET_UP
    told: list[dict[str, Any]] = []
    begun = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if stop.is_set():
                raise Stopped
            if not selector.select(min(left, _LOOK)):
                continue
            read = os.read(child.stdout.fileno(), 65536)
            if not read:
                break
            *lines, begun = (begun + read).split(b"\n")
            for line in map(json.loads, lines):
                told.append(line)
                if line.get("told") == "due":
                    until = line["at"] + WINDOW
                elif line.get("told") not in {"hook", None}:
                    return told
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
