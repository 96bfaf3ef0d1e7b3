"""Waits in the place of a cleanup: a library's end that waits for what it has begun.

``with ThreadPoolExecutor()`` and ``with Popen()`` wait in ``__exit__`` for what they have started,
and libraries do the same in an ``__exit__`` or a ``finally`` of theirs (S3 transfers). Interrupted
in the block, that is most often for the very thing that never comes.
"""

from __future__ import annotations

import os
from _thread import get_native_id

from . import syscalls
from .clauses import is_handling
from .source import STDLIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from .source import SourceMap
    from .stacks import Stack

_WAITS = (STDLIB + "threading.py", STDLIB + "subprocess.py", STDLIB + "multiprocessing" + os.sep)
_MOST_FRAMES = 100

LOOKS = 3
"""Looks in a row, some 10 ms apart, that have to agree."""


def waits_in_cleanup(frame: FrameType, code: SourceMap) -> bool:
    """Whether a library's own cleanup waits here, with no frame of the user's code in between.

    A cleanup in the user's code that calls into a library does not count: nothing of the library
    ends there.

    Thread: the frame's own.
    """
    if not frame.f_code.co_filename.startswith(_WAITS):
        return False
    inner: FrameType | None = frame
    for _ in range(_MOST_FRAMES):
        if inner is None or code.is_own(inner.f_code.co_filename):
            return False
        if inner.f_code.co_name == "__exit__":
            return True
        # A condition's wait has a ``finally`` of its own, in which it takes its lock again.
        is_wait = inner.f_code.co_filename.startswith(_WAITS)
        if not is_wait and is_handling(inner.f_code, inner.f_lasti):
            return True
        inner = inner.f_back
    return False


def waits_in_exit(stack: Stack, code: SourceMap) -> bool:
    """The same of a thread whose frames must not be walked: in an ``__exit__`` only.

    Thread: any.
    """
    if not stack or not stack[0][0].startswith(_WAITS):
        return False
    for file, _, function in stack:
        if code.is_own(file):
            return False
        if function == "__exit__":
            return True
    return False


class AtRest:
    """Whether no thread computes that a cleanup may be waiting for.

    A thread that runs while the one that looks holds the GIL runs C code which has let go of it.
    What that works on must not be freed under its hands, and a cleanup that waits for it may be
    about to do just that (pandas, with the buffers of a file that it reads).

    Made by the watchdog's thread, which does not count.
    """

    __slots__ = ("_looks", "_watchdog")

    def __init__(self) -> None:
        self._watchdog = get_native_id()
        self._looks = 0

    def waits(self, frame: FrameType, stack: Stack | None, code: SourceMap) -> bool:
        """Whether a library's own end waits in `frame`, or in another thread's `stack`, for good.

        Thread: as :meth:`is_certain`'s.
        """
        waits = waits_in_cleanup(frame, code) if stack is None else waits_in_exit(stack, code)
        return waits and self.is_certain()

    def is_certain(self) -> bool:
        """Whether several looks in a row agree: one that computes can be at rest for a moment.

        Thread: the handler's, or the watchdog's.
        """
        spared = {get_native_id(), self._watchdog}
        computes = any(
            syscalls.state_of(native_id) == "R"
            for native_id in syscalls.threads()
            if native_id not in spared
        )
        self._looks = 0 if computes else self._looks + 1
        return self._looks >= LOOKS
