"""Chooses the frame in which an interrupt may land: the nearest one of the user's own code.

Frames that are acquiring or releasing something do not count, nor do the frames that they have
called: entering and leaving must be completed. The same applies to frames that C code has called
by itself (a signal handler, a finaliser, a callback of the collector): an error raised there is
dropped, or leaves an instruction that does not expect it.

Thread: the frames' own, except :meth:`TargetFrames.allows_from_afar`.
"""

from __future__ import annotations

import sys
from types import FunctionType

from .bytecode import RESUMABLE, name_at
from .safe_points import CodePoints
from .source import GUARD, PACKAGE, STDLIB, is_stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from .source import SourceMap
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

OWN, INSTALLED, ANY, WHEREVER = range(4)
"""Where an interrupt may land: in the user's frames; also in a library's; also in the standard
library's; and at any instruction, as at last call."""

MOST_FRAMES = 100
"""How many frames are examined: a handler can be a million deep, and each frame becomes an object.
"""

# While these run, something is held that will not be released if they raise. C code drops what a
# finaliser raises, so the handler would not learn about its timeout.
_BETWEEN = frozenset({"__enter__", "__exit__", "__aenter__", "__aexit__", "__del__"})
# The same for functions of threading, logging and the import system.
_STDLIBS_BETWEEN = _BETWEEN | {
    *("acquire", "release", "notify", "_release_save", "_acquire_restore", "_is_owned"),
    *("_acquireLock", "_releaseLock", "_get_module_lock", "cb", "_warn_unawaited_coroutine"),
}
# Even if the thread is blocked in these, a raise would leave a condition broken, or be dropped.
_NOT_EVEN_BLOCKED = frozenset({"_acquire_restore", "__del__"})

# Our functions in which a decision about an interrupt begins, and which call nothing of the user's.
_DECISIONS = frozenset({"_on_nudge", "_hear", "_enter", "_step", "land_at_shield"})

# These instructions call nothing: if a frame at one of them has called another frame, C code did.
_CALLS_NOBODY = (
    *("LOAD_CONST", "LOAD_FAST", "STORE_FAST", "STORE_DEREF", "DELETE_FAST", "POP_TOP", "NOP"),
    *("SWAP", "COPY", "PUSH_NULL", "JUMP_", "RETURN_", "POP_EXCEPT", "MAKE_", "BUILD_", "END_FOR"),
)

_ASYNCIO = STDLIB + "asyncio/"
_SELECTORS = STDLIB + "selectors.py"


class TargetFrames:
    """Examines the frames of one invocation's handler, and caches what it finds."""

    __slots__ = ("_cpu_time", "_points", "_source", "_uncalled", "reading")

    def __init__(self, source: SourceMap, cpu_time: Callable[[], float] = float) -> None:
        self._cpu_time = cpu_time
        self.reading = 0.0
        """Seconds of `cpu_time` that reading code objects has taken."""
        self._source = source
        self._points: dict[int, CodePoints] = {}
        self._uncalled: list[CodeType] = []

    def note_handlers(self) -> None:
        """Note the current signal handlers, trace and profile functions, for `nearest`."""
        functions = (
            sys.gettrace(),
            sys.getprofile(),
            *(signal.getsignal(number) for number in range(1, signal.NSIG)),
        )
        codes = (_code_of(function) for function in functions)
        self._uncalled = [code for code in codes if code is not None]

    def nearest(self, frame: FrameType | None, reach: int) -> tuple[FrameType | None, bool]:
        """Find the nearest frame within `reach`, and whether an event loop's code is in the way."""
        target: FrameType | None = None
        uncalled = self._uncalled
        is_in_a_task = False
        for _ in range(MOST_FRAMES):
            if frame is None:
                break
            code = frame.f_code
            is_in_a_task = is_in_a_task or bool(code.co_flags & RESUMABLE)
            if code.co_filename.startswith(PACKAGE):
                if code.co_name == GUARD:
                    break
                if any(code is handler for handler in uncalled):
                    target = None
            elif is_loops_own(code):
                # Standard library code that the loop itself has called counts as the loop's, too.
                is_loops = not is_in_a_task and (
                    target is None or is_stdlib(target.f_code.co_filename)
                )
                return (None if is_loops else target), is_loops or target is None
            elif _is_between(frame, reach, uncalled):
                target = None
            else:
                if self._is_in_a_finally(frame, reach):
                    target = None
                if target is None and self.is_within(code, reach):
                    target = frame
            frame = frame.f_back
        return target, False

    def is_within(self, code: CodeType, reach: int) -> bool:
        """Return whether `reach` includes frames of `code`."""
        if reach == OWN:
            return self._source.is_own(code.co_filename)
        return reach >= ANY or not is_stdlib(code.co_filename)

    def allows(self, frame: FrameType, reach: int) -> bool:
        """Return whether a trace function may raise at the current instruction of `frame`."""
        return self._points_of(frame.f_code).allows(frame.f_lasti, in_a_finally=reach >= ANY)

    def allows_after(self, frame: FrameType, reach: int) -> bool:
        """Return whether a signal handler that runs in `frame` may raise."""
        return self._points_of(frame.f_code).allows_after(frame.f_lasti, in_a_finally=reach >= ANY)

    def allows_from_afar(self, frame: FrameType) -> bool | None:
        """Return whether an injection for a thread in `frame` would land well; None: do not inject.

        More cannot be known: the thread runs on until the injection lands, and its other frames
        must not be walked.

        Thread: any.
        """
        code = frame.f_code
        if self._points_of(code).is_entry(frame.f_lasti):
            # The injection would land after the call, before the block counts as entered.
            # Pinned by test_injection_waits_for_with_entry.
            return None
        if code.co_filename == _SELECTORS and code.co_name == "select":
            return True  # a loop's wait, which is woken for the injection
        return self._source.is_own(code.co_filename) and self.allows_after(frame, OWN)

    def _is_in_a_finally(self, frame: FrameType, reach: int) -> bool:
        code = frame.f_code
        if reach >= ANY or not self._source.is_own(code.co_filename):
            return False
        return self._points_of(code).is_in_a_finally(frame.f_lasti)

    def _points_of(self, code: CodeType) -> CodePoints:
        points = self._points.get(id(code))
        if points is None:
            began = self._cpu_time()
            points = self._points[id(code)] = CodePoints(code)  # keeps the code alive
            self.reading += self._cpu_time() - began
        return points


def is_loops_own(code: CodeType) -> bool:
    """Return whether this is asyncio's own code, and not a coroutine.

    A raise in there loses one of the loop's callbacks, or leaves the loop running forever. An error
    raised in a coroutine, in contrast, reaches the frame that awaits it. While a loop waits, the
    frame is the selector's.
    """
    return code.co_filename.startswith(_ASYNCIO) and not code.co_flags & RESUMABLE


def may_be_cut(frame: FrameType) -> bool:
    """Return whether a raise may end the call that blocks in `frame`."""
    return all(each.f_code.co_name not in _NOT_EVEN_BLOCKED for each in _outwards(frame))


def is_in_a_decision(frame: FrameType) -> bool:
    """Return whether `frame` runs in the middle of a decision about an interrupt.

    The collector calls finalisers there, and a coverage tool its own functions. A raise in one
    would be dropped, or leave the tool's lock locked, whichever block it is for. Pinned by
    test_nudge_in_finaliser_during_decision_is_deferred.
    """
    codes = (each.f_code for each in _outwards(frame))
    return any(c.co_name in _DECISIONS and c.co_filename.startswith(PACKAGE) for c in codes)


def _outwards(frame: FrameType) -> Iterator[FrameType]:
    """Yield a frame and those that have called it, as many as are examined."""
    outer: FrameType | None = frame
    for _ in range(MOST_FRAMES):
        if outer is None:
            return
        yield outer
        outer = outer.f_back


def is_at_a_call(frame: FrameType) -> bool:
    """Return whether `frame` itself can be in a call.

    CPython also checks for signals after the other instructions.
    """
    name = name_at(frame.f_code, frame.f_lasti)
    return not name.startswith(("RESUME", "JUMP_", "POP_JUMP_"))


def _is_between(frame: FrameType, reach: int, uncalled: list[CodeType]) -> bool:
    code, caller = frame.f_code, frame.f_back
    if is_stdlib(code.co_filename) and code.co_name in _STDLIBS_BETWEEN:
        return True
    if reach >= ANY:
        return False
    if code.co_name in _BETWEEN or any(code is handler for handler in uncalled):
        return True
    return caller is not None and (_code_of(caller.f_trace) is code or _calls_nobody(caller))


def _calls_nobody(frame: FrameType) -> bool:
    code, lasti = frame.f_code, frame.f_lasti
    name = name_at(code, lasti)
    if name == "RESUME":
        # RESUME 0 begins a function. With other arguments it continues a generator, which may in
        # turn continue another one.
        return code.co_code[lasti + 1] & 3 == 0
    return name.startswith(_CALLS_NOBODY)


def _code_of(function: object) -> CodeType | None:
    function = getattr(function, "__func__", function)
    return function.__code__ if isinstance(function, FunctionType) else None
