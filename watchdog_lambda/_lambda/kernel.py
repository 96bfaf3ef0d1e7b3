"""What Linux offers to a process that looks after another one.

System calls that Python does not have, by the C library; nothing is imported after a
:class:`Kernel` has been made.
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
        OSError: this process may not ask for what supervising needs.
    """

    __slots__ = ("_prctl_", "_syscall", "_tgkill", "_wait")

    def __init__(self) -> None:
        from watchdog_lambda._cpython import libc  # noqa: PLC0415 - for those who use it

        word = libc.UnsignedLong
        self._prctl_ = libc.function("prctl", libc.Int, word, word, word, word)
        self._wait = libc.function("sigtimedwait", libc.Bytes, libc.Pointer, libc.Bytes)
        self._syscall = libc.function("syscall", word, word, word, word)
        self._tgkill = _TGKILL.get(os.uname().machine)
        # Asked for now, so that a refusal is known before anything depends on it: the same signal
        # that there is already.
        number = libc.Int()
        self._prctl(_PR_GET_PDEATHSIG, libc.address(number))
        self._prctl(_PR_SET_PDEATHSIG, number.value)

    def adopt_orphans(self) -> None:
        """Become the parent of whatever process is left behind by a descendant's end.

        Raises:
            OSError: it was refused.
        """
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def end_with_parent(self, number: int) -> None:
        """Be sent this signal when the thread that has forked this process ends."""
        self._prctl(_PR_SET_PDEATHSIG, number)

    def leave_no_core(self) -> None:
        """Write no core file however this process ends."""
        self._prctl(_PR_SET_DUMPABLE, 0)

    def wait_for_signal(self, signals: frozenset[int], seconds: float) -> int:
        """Wait so long for one of these signals, which are blocked; 0 if none has come by then.

        Also earlier: a freeze interrupts the wait. ``signal.sigtimedwait()`` then returns what is
        left on its stack if the time is up, which may read like SIGINT. Pinned by
        test_a_freeze_between_invocations_has_nobody_act, on Python 3.12 and 3.13.
        """
        mask = sum(1 << (number - 1) for number in signals).to_bytes(_SIGNALS_SIZE, sys.byteorder)
        whole = int(seconds)
        number = self._wait(mask, None, _TIMESPEC.pack(whole, int((seconds - whole) * 1e9)))
        return max(number, 0)

    def signal_main_thread(self, pid: int, number: int) -> None:
        """Send a signal to a process's main thread, and to no other of its threads.

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
    """How many there are, C's own among them.

    Raises:
        OSError: there is no /proc.
    """
    return os.stat("/proc/self/task").st_nlink - 2  # a directory for each, and its own two


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, whatever code has installed it."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            caught = file.read().partition(b"SigCgt:")[2].split(maxsplit=1)
    except OSError:
        return False
    return bool(caught) and bool(int(caught[0], 16) >> (number - 1) & 1)


def last_pid() -> int:
    """The process that was started last on this system, as far as it can be seen; 0 if not."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[4])
    except (OSError, LookupError, ValueError):
        return 0


def started_at(pid: int) -> float | None:
    """When a process was started, in seconds since the system's start; None if it has ended.

    The clock behind it ticks every 10 ms.
    """
    fields = stat_of(pid)
    if not fields or fields[0] == "Z":
        return None
    return int(fields[19]) / TICKS
