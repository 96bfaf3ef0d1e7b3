"""Where threads are: stacks as plain places, taken without walking frames that run.

The frames of another thread are not walked. Following ``f_back`` makes frame objects, which up to
3.11 can start the garbage collector, whose finalisers can let the GIL go, and the thread returns
from the frames under way: that has crashed CPython 3.11.7 (twice in some 230,000 timeouts).
``faulthandler`` writes all stacks down in one C call, without letting go of the
GIL and without holding a frame.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    Stack = list[tuple[str, int, str]]
    """File, line and function of each frame, innermost first."""


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    import faulthandler  # noqa: PLC0415

    del faulthandler  # loaded, which is all


def own_stack(frame: FrameType | None) -> Stack:
    """The stack from a frame of the calling thread on; of no other thread's."""
    stack: Stack = []
    while frame is not None:
        code = frame.f_code
        stack.append((code.co_filename, frame.f_lineno or 0, code.co_name))
        frame = frame.f_back
    return stack


def all_stacks() -> dict[int, Stack]:
    """The stacks of all threads, by thread id, of one moment; at most 100 frames of each.

    Thread: any.
    """
    import faulthandler  # noqa: PLC0415 - preloaded

    descriptor = _scratch_file()
    try:
        faulthandler.dump_traceback(file=descriptor, all_threads=True)
        size = os.lseek(descriptor, 0, os.SEEK_CUR)
        text = os.pread(descriptor, size, 0).decode("ascii", "replace")
    finally:
        os.close(descriptor)
    return _parse(text)


def _scratch_file() -> int:
    """Not a pipe: that may be too small for a thousand threads, and nobody reads it meanwhile."""
    try:
        return os.memfd_create("watchdog_lambda")
    except (AttributeError, OSError):
        import tempfile  # noqa: PLC0415 - where there is no memfd

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def _parse(text: str) -> dict[int, Stack]:
    """What ``faulthandler`` writes: a line for each thread, then one for each of its frames."""
    stacks: dict[int, Stack] = {}
    stack: Stack = []
    for line in text.splitlines():
        if line.startswith(("Thread 0x", "Current thread 0x")):
            ident = line[line.index("0x") :].split(maxsplit=1)[0]
            stack = stacks[int(ident, 16)] = []
        elif line.startswith('  File "'):
            file, _, rest = line[8:].rpartition('", line ')
            number, _, function = rest.partition(" in ")
            stack.append((file, int(number) if number.isdecimal() else 0, function))
        elif line.startswith("  ..."):
            stack.append(("...", 0, ""))
    return stacks
