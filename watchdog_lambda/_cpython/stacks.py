"""Takes the stacks of threads as plain places, without walking running frames.

The frames of another thread are not walked. Following ``f_back`` creates frame objects, which up to
3.11 can start the garbage collector, whose finalisers can release the GIL, and meanwhile the thread
returns from the frames being walked: this has crashed CPython 3.11.7 (twice in some 230,000
timeouts). ``faulthandler`` writes all stacks in one C call, without releasing the GIL and without
holding a frame.

It writes at most a hundred threads, and needs a file. If that does not suffice, the one thread that
matters is walked, with the collector disabled.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    Place = tuple[str, int, str]
    """File, line and function."""

    Stack = list[Place]
    """The place of each frame, innermost first."""

    from typing import Any

MOST_OWN_FRAMES = 1000
"""The most frames of a walked stack: a handler can be a million deep."""

_reserves: list[ReserveFile] = []

# Replaced by libc, which keeps the GIL: after each call of os, every thread that computes gets a
# turn before this one. Pinned by test_stacks_are_taken_without_releasing_the_gil.
_calls: Any = os


class ReserveFile:
    """A scratch file that is kept open, in case no other descriptor is available."""

    __slots__ = ("_descriptor", "_identity", "_lock")

    def __init__(self) -> None:
        self._descriptor = _new_file()
        self._identity = _identity(self._descriptor)
        self._lock = allocate_lock()

    def dump(self) -> str:
        """Return all stacks as text. Raises OSError if the file is gone, or in use."""
        if not self._lock.acquire(False):
            raise BlockingIOError
        try:
            # User code may have closed every descriptor, and opened its own file with this number.
            if _identity(self._descriptor) != self._identity:
                raise FileNotFoundError
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            return _dump(self._descriptor)
        finally:
            self._lock.release()


def preload() -> None:
    """Import now what must not be imported during a timeout, and open the reserve file."""
    global _calls  # noqa: PLW0603
    __import__("faulthandler")  # it only has to be loaded
    try:
        from . import libc as _calls  # noqa: PLC0415
    except ImportError:
        pass  # in isolated sub-interpreters
    if not _reserves:
        try:
            _reserves.append(ReserveFile())
        except OSError:
            pass  # no descriptor is available now; there may be one when it is needed


def own_stack(frame: FrameType | None, most: int = MOST_OWN_FRAMES) -> Stack:
    """Return the stack from a frame on, which must be of the calling thread."""
    stack: Stack = []
    while frame is not None and len(stack) < most:
        code = frame.f_code
        stack.append((code.co_filename, frame.f_lineno or 0, code.co_name))
        frame = frame.f_back
    return stack


def all_stacks(wanted: int) -> dict[int, Stack]:
    """Return the stacks of all threads at one moment, by thread id; at most 100 frames of each.

    There are at most a hundred threads, but the thread `wanted` is always included. Never raises;
    stacks that are not available are left out.

    Thread: any.
    """
    try:
        stacks = _parse(_text())
        if wanted not in stacks and not has_other_interpreters():
            stacks[wanted] = stack_of(wanted)
    except MemoryError:
        return {}
    return stacks


def stack_of(thread_id: int, most: int = MOST_OWN_FRAMES) -> Stack:
    """Return the innermost frames of one thread, walked with the collector paused. Thread: any."""
    if has_other_interpreters():
        return _parse(_text()).get(thread_id, [])[:most]
    with gc_paused():
        return own_stack(sys._current_frames().get(thread_id), most)


def has_other_interpreters() -> bool:
    """Return whether a thread may run in another interpreter, with its own GIL.

    From 3.12 on ``sys._current_frames()`` includes that interpreter's frames, which continue to run
    while they are read: 3.13 and 3.14 ended in "double free or corruption". Pinned by
    test_handler_using_a_sub_interpreter_is_interrupted. On 3.14 it means nothing that the module is
    loaded, because ``concurrent.futures`` imports it. Interpreters that only C code creates are not
    detected.
    """
    if sys.version_info >= (3, 13):  # pragma: no cover - from 3.13 on
        module = sys.modules.get("_interpreters")
        return module is not None and len(module.list_all()) > 1
    # On 3.12, dropping the module's list can end an interpreter, so only check that it is loaded.
    return sys.version_info >= (3, 12) and "_xxsubinterpreters" in sys.modules


def stack_in(text: str) -> Stack:
    """Return the first stack in the output of ``faulthandler``. Thread: any."""
    none: Stack = []
    sections = map(_frames_in, text.split("(most recent call first):\n"))
    return next((stack for stack in sections if stack), none)


def frame_of(thread_id: int) -> FrameType | None:
    """Return the current innermost frame of a thread; it may end before you read it. Thread: any.

    Read only its code and its instruction: see above. None if another interpreter may run, because
    the frames of its threads would be read as well.
    """
    if has_other_interpreters():
        return None
    if sys.version_info >= (3, 12):  # pragma: no cover - from 3.12 on
        return sys._current_frames().get(thread_id)
    with gc_paused():  # pragma: no cover - up to 3.11
        return sys._current_frames().get(thread_id)


def handled_by(thread_id: int) -> BaseException | None:
    """Return the exception that a thread is handling in ``except`` or ``finally``. Thread: any.

    None if another interpreter may run, because its threads' exceptions would be held as well.
    """
    if has_other_interpreters():
        return None
    if sys.version_info >= (3, 12):  # pragma: no cover - from 3.12 on
        return sys._current_exceptions().get(thread_id)
    triple = sys._current_exceptions().get(thread_id)  # pragma: no cover - up to 3.11
    return triple[1] if triple else None  # pragma: no cover - up to 3.11


class gc_paused:  # noqa: N801 - used like a function
    """A block in which the garbage collector is paused; see above. Thread: any, one at a time."""

    __slots__ = ("_was_enabled",)

    def __enter__(self) -> None:
        """Pause the collector."""
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        """Resume the collector, if it was enabled before."""
        if self._was_enabled:
            gc.enable()


def _text() -> str:
    try:
        descriptor = _new_file()
        try:
            return _dump(descriptor)
        finally:
            _calls.close(descriptor)
    except OSError:
        pass
    try:
        return _reserves[0].dump() if _reserves else ""
    except OSError:
        return ""


def _dump(descriptor: int) -> str:
    import faulthandler  # noqa: PLC0415 - preloaded

    faulthandler.dump_traceback(file=descriptor, all_threads=True)
    size = _calls.lseek(descriptor, 0, os.SEEK_CUR)
    return str(_calls.pread(descriptor, size, 0), "ascii", "replace")


def _new_file() -> int:
    """Open a file. A pipe may be too small for a thousand threads: nothing reads it meanwhile."""
    try:
        descriptor: int = _calls.memfd_create("watchdog_lambda")
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in {errno.EMFILE, errno.ENFILE}:
            raise
        import tempfile  # noqa: PLC0415 - only if there is no memfd; then preload() imports it

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    return descriptor


def _identity(descriptor: int) -> tuple[int, ...]:
    status = os.fstat(descriptor)
    # The pid is included because a child of fork shares the file's position with its parent.
    return os.getpid(), status.st_dev, status.st_ino


def _parse(text: str) -> dict[int, Stack]:
    """Parse ``faulthandler``'s dump of all threads, by thread id."""
    stacks: dict[int, Stack] = {}
    parsed: dict[str, Stack] = {}  # by text: the idle threads of a pool all have the same one
    for section in text.split("\n\n"):
        heading, _, frames = section.partition("\n")
        if heading.startswith(("Thread 0x", "Current thread 0x")):
            ident = int(heading[heading.index("0x") :].split(maxsplit=1)[0], 16)
            if frames not in parsed:
                parsed[frames] = _frames_in(frames)
            stacks[ident] = parsed[frames]
    return stacks


def _frames_in(text: str) -> Stack:
    stack: Stack = []
    for line in text.splitlines():
        if line.startswith('  File "'):
            file, _, rest = line[8:].rpartition('", line ')
            number, _, function = rest.partition(" in ")
            stack.append((file, int(number) if number.isdecimal() else 0, function))
        elif line.startswith("  ..."):
            stack.append(("...", 0, ""))
    return stack
