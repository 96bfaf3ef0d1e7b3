"""Chooses an exception that passes the libraries between an interrupt and the user's code.

A client mistakes a ``TimeoutError`` for a network fault and sends its request again. So before a
``LambdaTimeout`` lands, the ``except`` clauses of the frames that it would pass are read:

- if a library would consume it, an ``Interrupt`` lands instead, which is not mistaken for a fault;
- unless that library has called the user's code and would not call it again: such a framework has
  its own way to answer (Powertools' ``@app.exception_handler(TimeoutError)``);
- if a library catches ``KeyboardInterrupt`` to cancel its work, and re-raises it (psycopg), a
  ``LoopInterrupt`` lands, which is a ``KeyboardInterrupt``;
- otherwise a ``LambdaTimeout`` lands, and ``except TimeoutError`` in the user's code works.

The frames from the landing place to the user's code that catches the error count, or else to the
outermost frame of the user's code. Code that wraps the handler does not count: it sends no request.
"""

from __future__ import annotations

import sys

from watchdog_lambda._cpython import clauses
from watchdog_lambda._cpython.bytecode import hides_timeout
from watchdog_lambda._cpython.loops import running_loop, waits_in_c
from watchdog_lambda._cpython.source import GUARD, PACKAGE, RECORD, is_ours
from watchdog_lambda.errors import Interrupt, LambdaTimeout, LoopInterrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from watchdog_lambda._cpython.source import SourceMap
    from watchdog_lambda._cpython.stacks import Stack
    from watchdog_lambda.errors import Landing

    Kind = type[Landing]

MOST_FRAMES = 200
"""The most frames that are examined: a handler can be a million deep."""


_CLIENTS = {
    *("ftplib", "http", "imaplib", "poplib", "smtplib", "urllib", "xmlrpc"),
    *("concurrent", "multiprocessing"),
}
"""The packages of the standard library that can leave something behind: a connection in the middle
of its protocol, or a pool whose worker continues although no code waits for it any more."""

_EDGES = {GUARD, RECORD}
"""The functions at which the user's code ends. Code around them treats an error as the end of a
handler, or of one record of a batch, and sends no request again."""


def next_kind(
    frame: FrameType,
    stack: Stack,
    code: SourceMap,
    *,
    from_afar: bool,
    is_own_thread: bool,
    has_begun: bool,
) -> Kind:
    """Choose what lands next, in `frame` or in the thread that has this `stack`.

    Thread: the frame's own (`is_own_thread`), or the watchdog's.
    """
    if is_own_thread and waits_in_c():
        return LoopInterrupt
    if has_begun:
        is_cancelled = not from_afar and cancels(frame, code)
        return (
            LoopInterrupt if is_cancelled or _has_loop(is_own_thread=is_own_thread) else Interrupt
        )
    # Such a frame would hide the timeout from the handler, which could end before the next
    # interrupt, with a wrong result.
    hidden = bool(stack) and hides_timeout(stack[0][0], stack[0][2])
    kind = first_kind_from_afar(stack, code) if from_afar else first_kind(frame, code)
    return Interrupt if hidden and kind is LambdaTimeout else kind


def _has_loop(*, is_own_thread: bool) -> bool:
    if "gevent" in sys.modules:
        return True
    if is_own_thread:
        return running_loop() is not None
    # Only the thread itself can be asked for its loop. For another one, an unnecessary
    # KeyboardInterrupt is better than an interrupt that its loop stores.
    return "asyncio" in sys.modules


def first_kind(frame: FrameType, code: SourceMap) -> Kind:
    """Choose what lands first in `frame`. Thread: the frame's own."""
    kind: Kind = LambdaTimeout
    found: Kind = LambdaTimeout  # for the libraries since the last frame of the user's code
    is_called_back = is_taken = False  # a library has called user code; and would consume it
    inner: FrameType | None = frame
    for _ in range(MOST_FRAMES):
        if inner is None or (is_ours(inner.f_code) and inner.f_code.co_name in _EDGES):
            break
        if code.is_own(inner.f_code.co_filename):
            kind = found
            if kind is not LambdaTimeout or is_taken:
                break
            is_called_back = True
            fate = clauses.fate(inner, LambdaTimeout)
            if fate == clauses.SUPPRESSED:
                return Interrupt  # a library's ``with`` in the user's code, which may retry
            if fate != clauses.PASSES:
                break
        elif not is_ours(inner.f_code):
            of_library = _of_library(inner, code)
            is_taken = is_taken or (is_called_back and of_library is Interrupt)
            if not is_taken:
                found = _stronger(found, of_library)
            elif clauses.comes_again(inner):
                found = Interrupt
        inner = inner.f_back
    return kind


def first_kind_from_afar(stack: Stack, code: SourceMap) -> Kind:
    """Choose for a thread whose frames must not be walked: any library may consume the error.

    Thread: any.
    """
    edge = next((i for i, (file, _, name) in enumerate(stack) if _is_edge(file, name)), len(stack))
    stack = stack[:edge]
    outermost = max((i for i, (file, _, _) in enumerate(stack) if code.is_own(file)), default=-1)
    between = stack[: max(outermost, 0)]
    return Interrupt if any(code.is_installed(file) for file, _, _ in between) else LambdaTimeout


def _is_edge(file: str, function: str) -> bool:
    return function in _EDGES and file.startswith(PACKAGE)


def libraries_in(stack: Stack, code: SourceMap) -> tuple[str, ...]:
    """Return the libraries that the innermost user code has called, innermost first.

    These are top-level packages: installed ones, and the standard library's clients. Code that has
    called the user's code (a framework, a retry) is not included: nothing has landed in it, and it
    expects errors from what it calls. Thread: any.
    """
    own = next((i for i, (file, _, _) in enumerate(stack) if code.is_own(file)), 0)
    packages = ((code.is_installed(file), _package(code.name(file))) for file, _, _ in stack[:own])
    names = (name for is_installed, name in packages if is_installed or name in _CLIENTS)
    return tuple(dict.fromkeys(names))


def _package(name: str) -> str:
    """Return the top-level package of a file, whose name is relative to its ``sys.path`` entry."""
    parts = name.split("/")
    # If the name is absolute, take the file's folder, which is right for flat packages.
    top = parts[0] if parts[0] or len(parts) < 3 else parts[-2]
    return top.removesuffix(".py")


def cancels(frame: FrameType, code: SourceMap) -> bool:
    """Return whether the thread is in a library's call that a ``KeyboardInterrupt`` cancels.

    Thread: the frame's own.
    """
    inner: FrameType | None = frame
    for _ in range(MOST_FRAMES):
        if inner is None or code.is_own(inner.f_code.co_filename) or is_ours(inner.f_code):
            return False
        if _of_library(inner, code) is LoopInterrupt:
            return True
        inner = inner.f_back
    return False


def _of_library(frame: FrameType, code: SourceMap) -> Kind:
    if (
        code.is_installed(frame.f_code.co_filename)
        and clauses.fate(frame, LoopInterrupt) == clauses.RAISED_ON
        and clauses.fate(frame, Interrupt) == clauses.PASSES
    ):
        return LoopInterrupt
    takes = clauses.fate(frame, LambdaTimeout) in {clauses.TAKEN, clauses.SUPPRESSED}
    return Interrupt if takes else LambdaTimeout


def _stronger(one: Kind, other: Kind) -> Kind:
    return max(one, other, key=(LambdaTimeout, Interrupt, LoopInterrupt).index)
