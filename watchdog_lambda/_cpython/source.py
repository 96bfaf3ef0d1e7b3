"""Tells whose code a frame is, and names places in it, from file names and stacks only."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType, TracebackType
    from typing import Any

    from .stacks import Place, Stack

    Places = tuple[Place | None, Place | None]
    """The innermost line of the user's own code, and the innermost one that it has called."""

PACKAGE = os.path.dirname(sys.modules[__name__.partition(".")[0]].__file__ or "") + os.sep
"""The root of this package: an interrupt never lands in a frame of a file below it.

Pinned for every file of the package by test_no_interrupt_lands_in_any_file_of_the_package.
"""

GUARD = "guarded"
"""The name of the function around every watched handler; see :mod:`._handler`."""

RECORD = "opened"
"""The name of the function around every record handler; see :mod:`watchdog_lambda.batch`."""

OPAQUE = "call_opaque"
"""The exception to the rule of PACKAGE: a handler that is C code has no other frame."""

STDLIB = os.path.dirname(os.__file__) + os.sep

_LAYERS = "/opt/python/"
_RUNTIME = "/var/runtime/"
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

MOST_FRAMES = 200
"""The most frames shown of one stack: a runaway recursion must not flood the log."""


def is_ours(code: CodeType) -> bool:
    """Return whether this is the package's own code, in which no interrupt may land."""
    return code.co_filename.startswith(PACKAGE) and code.co_name != OPAQUE


def is_stdlib(filename: str) -> bool:
    """Return whether a file is the standard library's.

    Without a virtual environment, installed packages are below the same folder.
    """
    if filename.startswith("<frozen "):
        return True
    return filename.startswith(STDLIB) and not any(part in filename for part in _INSTALLED)


class SourceMap:
    """Distinguishes the user's own code from libraries, and names places in it.

    A file is a library's if it is in the standard library, in ``site-packages``, in a layer, next
    to Lambda's runtime, or in a folder that a ``*.dist-info`` next to it names (packages installed
    flat into the task root, as in Lambda's zip files and images).
    """

    def __init__(self, path: Iterable[str]) -> None:
        roots = {entry.rstrip(os.sep) + os.sep for entry in path}
        # The longest first: a root may be inside another one.
        self._roots = sorted(roots, key=len, reverse=True)
        self._own: dict[str, bool] = {}
        self._distributions: dict[str, frozenset[str]] = {}

    def is_own(self, filename: str) -> bool:
        known = self._own.get(filename)
        if known is None:
            known = self._own[filename] = self._decide(filename)
        return known

    def is_installed(self, filename: str) -> bool:
        """Return whether a file is an installed library's, not the standard library's."""
        if filename.startswith(("<", PACKAGE)) or is_stdlib(filename):
            return False
        return not self.is_own(filename)

    def name(self, filename: str) -> str:
        """Return the file's name relative to its entry in ``sys.path``."""
        return next((filename[len(r) :] for r in self._roots if filename.startswith(r)), filename)

    def place(self, file: str, line: int, function: str) -> str:
        return f"{shown(self.name(file))}:{line} ({shown(function)})" if function else shown(file)

    def has_own(self, stack: Stack) -> bool:
        """Return whether the handler's part of a stack contains the user's own code."""
        return any(self.is_own(entry[0]) for entry in of_the_handler(stack))

    def places_from(self, frame: FrameType | None, most: int) -> Places | None:
        """Return the two lines of the handler's part of a stack, walking no farther than necessary.

        None if there is no user code in the innermost `most` frames. Thread: any, while the garbage
        collector is paused.
        """
        own, called = self._own, None
        while frame is not None and most:
            code = frame.f_code
            file = code.co_filename
            if own[file] if file in own else self.is_own(file):
                place = file, frame.f_lineno or 0, code.co_name
                return place, called and (
                    called.f_code.co_filename,
                    called.f_lineno or 0,
                    called.f_code.co_name,
                )
            if not file.startswith(PACKAGE):
                called = called or frame
            elif code.co_name == GUARD:
                return None
            frame = frame.f_back
            most -= 1
        return None

    def location(self, stack: Stack) -> str:
        """Name the innermost frame of the user's own code, or the innermost of all if none is."""
        stack = of_the_handler(stack)
        chosen = next((e for e in stack if self.is_own(e[0])), stack[0] if stack else None)
        return "" if chosen is None else self.place(*chosen)

    def places(self, stack: Stack) -> tuple[str, ...]:
        """Name the handler's frames, outermost first. A deep stack is cut in the middle."""
        places = [self.place(*entry) for entry in reversed(of_the_handler(stack))]
        left_out = len(places) - MOST_FRAMES
        if left_out > 0:
            middle = MOST_FRAMES // 2
            places[middle : middle + left_out] = [f"... {left_out} frames left out ..."]
        return tuple(places)

    def wrappers(self, stack: Stack) -> frozenset[tuple[str, str]]:
        """Return file and function of the frames around the user's own code: others' wrappers.

        Empty if the stack has no frame of the user's code, so that wrappers cannot be recognised.
        """
        around: set[tuple[str, str]] = set()
        for file, _, function in reversed(of_the_handler(stack)):
            if self.is_own(file):
                return frozenset(around)
            around.add((file, function))
        return frozenset()

    def _decide(self, filename: str) -> bool:
        if filename.startswith(("<", PACKAGE, _LAYERS, _RUNTIME)):  # "<": frozen or generated
            return False
        if any(part in filename for part in _INSTALLED) or filename.startswith(STDLIB):
            return False
        for root in self._roots:
            if filename.startswith(root):
                top = filename[len(root) :].split(os.sep, 1)[0]
                return top.removesuffix(".py") not in self._installed_in(root)
        return True

    def _installed_in(self, root: str) -> frozenset[str]:
        names = self._distributions.get(root)
        if names is None:
            # Imports have listed the folder already, for what runs from it. os.listdir() releases
            # the GIL for each entry, and each time every thread that computes gets a turn.
            finder: Any = sys.path_importer_cache.get(root[:-1])
            is_known = type(finder).__name__ == "FileFinder"
            entries: Iterable[str] = getattr(finder, "_path_cache", ()) if is_known else ()
            try:
                entries = entries or os.listdir(root)
            except OSError:
                pass
            names = self._distributions[root] = frozenset(
                entry.split("-", 1)[0].lower() for entry in entries if entry.endswith(".dist-info")
            )
        return names


def shown(name: str) -> str:
    """Escape everything in a name that would break a line or control a terminal.

    Generated code can give its functions and files any names, and the runtime writes an error's
    message to the log unchanged.
    """
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def of_the_handler(stack: Stack) -> Stack:
    """Return the handler's part of a stack, without the frames of this package and the runtime."""
    kept: Stack = []
    handlers = None
    for entry in stack:
        if not entry[0].startswith(PACKAGE):
            kept.append(entry)
        elif entry[2] == GUARD:
            handlers = len(kept)
    return kept[:handlers]


def trim(traceback: TracebackType | None) -> TracebackType | None:
    """Cut this package's frames off the inner end of a traceback, where our errors are raised."""
    last: TracebackType | None = None
    entry = traceback
    while entry is not None:
        if not entry.tb_frame.f_code.co_filename.startswith(PACKAGE):
            last = entry
        entry = entry.tb_next
    if last is not None:
        last.tb_next = None
    return traceback


def innermost(error: BaseException) -> TracebackType | None:
    """Return the traceback entry of the frame that raised the error; None if it was not raised."""
    entry = error.__traceback__
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    return entry


def place_of(error: BaseException) -> str:
    """Return where an error was raised, as ``app.py:41 (load_rows)``; empty if it was not."""
    entry = innermost(error)
    if entry is None:
        return ""
    code = entry.tb_frame.f_code
    return f"{code.co_filename.rpartition(os.sep)[2]}:{entry.tb_lineno} ({code.co_name})"


def current_path() -> list[str]:
    """Return the current ``sys.path``, with the working directory spelt out."""
    # Users also put Path objects there, which imports ignore.
    path = [entry for entry in sys.path if isinstance(entry, str)]
    if "" not in path:
        return path  # without os.getcwd(), which releases the GIL
    try:
        here = os.getcwd()
    except OSError:  # it has been removed
        here = os.sep
    return [entry or here for entry in path]


def current_source() -> SourceMap:
    """Return the map for the current ``sys.path``: the same one until the path changes."""
    return _latest_source(tuple(current_path()))


_latest_source = lru_cache(1)(SourceMap)
