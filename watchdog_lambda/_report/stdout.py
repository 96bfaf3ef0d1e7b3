"""Writes one line to standard output, whether or not there is a reader.

It does not use ``sys.stdout``: a hook may have replaced it, and a thread may hang in ``print`` with
the buffer's lock held. The line goes to file descriptor 1, or to 2 if that is gone. Other threads
and the handler's children write there too, so the line is written in one system call that cannot
block. The wait for a reader that does not read is limited.

A pipe accepts as much as it has room for at once, and the rest when its reader has made room. If
others keep the pipe nearly full, we first wait for room for the whole line.

A write that cannot block needs our own file description: everything else that writes to the
existing one would be affected by ``O_NONBLOCK``. Opening the pipe again through ``/proc`` is not
allowed if another user has created it; splicing into it always is.
"""

from __future__ import annotations

import os
import select
import stat
import sys

from watchdog_lambda._engine.clock import SystemClock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Put = Callable[[int, memoryview], int]

LONGEST_WAIT = 0.1
"""Seconds to wait for a reader that does not read, for each of the two descriptors."""

_PAUSE = 0.0002
_PAGE = 4096
_FIONREAD = 0x541B

_ATOMIC = select.PIPE_BUF  # a pipe or socket that is ready takes this much without blocking


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:
        return
    del fcntl  # it only has to be loaded


# Everything that some reader treats as the end of a line (as str.splitlines() does), and the
# eight-bit controls of terminals. In JSON they occur only in strings, where the escapes mean the
# same.
_SPELT_OUT = {
    number: f"\\u{number:04x}"
    for number in (0x0B, 0x0C, 0x1C, 0x1D, 0x1E, *range(0x7F, 0xA0), 0x2028, 0x2029)
} | {0x0A: "\\n", 0x0D: "\\r"}


def as_line(text: str) -> bytes:
    """Encode one line. Line breaks in it are escaped, so that no second line can be forged."""
    return text.translate(_SPELT_OUT).encode("utf-8", "backslashreplace") + b"\n"


def write(line: bytes) -> bool:
    """Write one line; False if it was not accepted completely. Never raises, never waits long.

    Thread: any.
    """
    return any(_write_all(descriptor, line) for descriptor in (1, 2))


def _write_all(descriptor: int, data: bytes) -> bool:
    opened = None
    try:
        if not is_standard(descriptor):
            return False
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        put: Put = _put_piece
        if kind in {stat.S_IFIFO, stat.S_IFCHR}:
            opened = _open_again(descriptor)
        if opened is not None:
            put = os.write
        elif kind == stat.S_IFIFO:
            put = _splice
        until = SystemClock.monotonic() + LONGEST_WAIT
        if kind == stat.S_IFIFO:
            _wait_for_room(descriptor, len(data), until - LONGEST_WAIT / 2)
        return _push(descriptor if opened is None else opened, put, data, until)
    except (OSError, MemoryError):
        return False
    finally:
        if opened is not None:
            os.close(opened)


def is_standard(descriptor: int) -> bool:
    """Return whether a descriptor still is standard output or error, or a deliberate replacement.

    If user code closes the descriptor, the next file that it opens gets the number, and would get
    our line. Python opens everything close-on-exec. Real standard output is inherited, or set by
    ``os.dup2()``, and is not close-on-exec.
    """
    return os.get_inheritable(descriptor)


def _open_again(descriptor: int) -> int | None:
    """Open the same pipe or terminal again, for writing without blocking; None if refused."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return None  # no /proc, no permission, no free descriptor, or no reader


def _wait_for_room(pipe: int, size: int, until: float) -> None:
    """Wait until a pipe has room for `size` bytes, as far as that can be determined."""
    fcntl = sys.modules.get("fcntl")
    if fcntl is None:
        return
    capacity = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    while True:
        queued = int.from_bytes(fcntl.ioctl(pipe, _FIONREAD, bytes(4)), sys.byteorder)
        # The last page in use may not be full.
        if not queued or queued + _PAGE + size <= capacity:
            return
        # Pause before polling, so that we continue right after a full pipe was read from.
        SystemClock.pause(_PAUSE)
        left = until - SystemClock.monotonic()
        if left <= 0:
            return
        poll.poll(left * 1000)


def _push(descriptor: int, put: Put, data: bytes, until: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    monotonic = SystemClock.monotonic
    rest = memoryview(data)
    while rest:
        # Poll at least once, however long the last piece has taken.
        ready = poll.poll(max(0.0, until - monotonic()) * 1000)
        # POLLERR means that the reader is gone. Writing would raise SIGPIPE, for which user code
        # may have restored the default action.
        if not ready or ready[0][1] != select.POLLOUT:
            return False
        try:
            rest = rest[put(descriptor, rest) :]
        except (BlockingIOError, InterruptedError):
            if monotonic() >= until:  # another writer was faster each time
                return False
    return True


def _put_piece(descriptor: int, rest: memoryview) -> int:
    return os.write(descriptor, rest[:_ATOMIC])


def _splice(descriptor: int, rest: memoryview) -> int:
    try:
        # Use a new file for each line: the pipe refers to its pages until they have been read.
        file = os.memfd_create("watchdog_lambda")
    except (AttributeError, OSError):
        return _put_piece(descriptor, rest)
    try:
        length = os.write(file, rest)
        return os.splice(file, descriptor, length, 0, None, os.SPLICE_F_NONBLOCK)
    finally:
        os.close(file)
