"""Linux system calls for a process that supervises another one.

Python does not have them, so they are called through the C library. Nothing is imported after a
:class:`Kernel` has been created.
"""

from __future__ import annotations

import os
import sys
from _struct import Struct

from watchdog_lambda._cpython.children import stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_TGKILL: Final = {"x86_64": 234, "aarch64": 131}

_SIGNALS_SIZE: Final = 128
_TIMESPEC: Final = Struct("@ll")

TICKS: Final = os.sysconf("SC_CLK_TCK")


class Kernel:
    """System calls that Python does not have.

    Raises:
        ImportError: C functions cannot be called here.
        OSError: this process is not permitted to make the system calls for supervising.
    """

    __slots__ = ("_prctl_", "_syscall", "_tgkill", "_wait")

    def __init__(self) -> None:
        from watchdog_lambda._cpython import libc  # noqa: PLC0415 - only if used

        word = libc.UnsignedLong
        self._prctl_ = libc.function("prctl", libc.Int, word, word, word, word)
        self._wait = libc.function("sigtimedwait", libc.Bytes, libc.Pointer, libc.Bytes)
        self._syscall = libc.function("syscall", word, word, word, word)
        self._tgkill = _TGKILL.get(os.uname().machine)
        # Try it now, so that a refusal is known before anything depends on it. This sets the same
        # signal that is set already.
        number = libc.Int()
        self._prctl(_PR_GET_PDEATHSIG, libc.address(number))
        self._prctl(_PR_SET_PDEATHSIG, number.value)

    def adopt_orphans(self) -> None:
        """Become the parent of every descendant whose own parent ends.

        Raises:
            OSError: this was refused.
        """
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def end_with_parent(self, number: int) -> None:
        """Get this signal when the thread that has forked this process ends."""
        self._prctl(_PR_SET_PDEATHSIG, number)

    def leave_no_core(self) -> None:
        """Write no core file, however this process ends."""
        self._prctl(_PR_SET_DUMPABLE, 0)

    def wait_for_signal(self, signals: frozenset[int], seconds: float) -> int:
        """Wait at most `seconds` for one of these signals, which are blocked; 0 if none has come.

        It may return earlier, because a freeze interrupts the wait. If the time is up then,
        ``signal.sigtimedwait()`` returns an uninitialised value, which may look like SIGINT. Pinned
        by test_freeze_between_invocations_has_no_effect, on Python 3.12 and 3.13.
        """
        mask = sum(1 << (number - 1) for number in signals).to_bytes(_SIGNALS_SIZE, sys.byteorder)
        whole = int(seconds)
        number = self._wait(mask, None, _TIMESPEC.pack(whole, int((seconds - whole) * 1e9)))
        return max(number, 0)

    def signal_main_thread(self, pid: int, number: int) -> None:
        """Send a signal to a process's main thread, not to its other threads.

        Raises:
            OSError: there is no such process.
        """
        if self._tgkill is None:
            os.kill(pid, number)
        elif self._syscall(self._tgkill, pid, pid, number):
            raise OSError("tgkill was refused")

    def _prctl(self, option: int, argument: int) -> None:
        if self._prctl_(option, argument, 0, 0, 0):
            raise OSError(f"the system refuses prctl({option})")


def threads_of_this_process() -> int:
    """Return the number of threads, including those that C code has started.

    Raises:
        OSError: there is no /proc.
    """
    return os.stat("/proc/self/task").st_nlink - 2  # one directory per thread, plus . and ..


def handles(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal, in Python or C."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            caught = file.read().partition(b"SigCgt:")[2].split(maxsplit=1)
    except OSError:
        return False
    return bool(caught) and bool(int(caught[0], 16) >> (number - 1) & 1)


def last_pid() -> int:
    """Return the pid of the last process started on this system; 0 if it is not known."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[4])
    except (OSError, LookupError, ValueError):
        return 0


def started_at(pid: int) -> float | None:
    """Return a process's start, in seconds since the system's start; None if it has ended.

    The resolution is 10 ms.
    """
    fields = stat_of(pid)
    if not fields or fields[0] == "Z":
        return None
    return int(fields[19]) / TICKS
