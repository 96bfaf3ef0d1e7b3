"""Recognises a library's cleanup that only waits for what the library has started.

``with ThreadPoolExecutor()`` and ``with Popen()`` wait in ``__exit__`` for what they have started,
and libraries do the same in their own ``__exit__`` or ``finally`` (S3 transfers). If the block was
interrupted, they mostly wait for the very thing that never comes.
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
"""How many looks in a row, some 10 ms apart, must agree."""


def waits_in_cleanup(frame: FrameType, code: SourceMap) -> bool:
    """Return whether a library's own cleanup waits here, with no user code in between.

    A cleanup in the user's code that calls a library does not count.

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
        # A condition's wait has its own ``finally``, in which it acquires its lock again.
        is_wait = inner.f_code.co_filename.startswith(_WAITS)
        if not is_wait and is_handling(inner.f_code, inner.f_lasti):
            return True
        inner = inner.f_back
    return False


def waits_in_exit(stack: Stack, code: SourceMap) -> bool:
    """Do the same for a thread whose frames must not be walked: recognises ``__exit__`` only.

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
    """Checks that no thread is computing for which a cleanup may be waiting.

    A thread that runs while the looking thread holds the GIL is in C code that has released it.
    What that C code works on must not be freed meanwhile, and interrupting a cleanup that waits for
    the thread could cause just that (pandas, with the buffers of a file that it reads).

    Created by the watchdog's thread, which does not count.
    """

    __slots__ = ("_looks", "_watchdog")

    def __init__(self) -> None:
        self._watchdog = get_native_id()
        self._looks = 0

    def waits(self, frame: FrameType, stack: Stack | None, code: SourceMap) -> bool:
        """Return whether a library's cleanup only waits, in `frame` or in another thread's `stack`.

        Thread: as for :meth:`is_certain`.
        """
        waits = waits_in_cleanup(frame, code) if stack is None else waits_in_exit(stack, code)
        return waits and self.is_certain()

    def is_certain(self) -> bool:
        """Return whether several looks in a row agree: a computing thread can pause for a moment.

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
