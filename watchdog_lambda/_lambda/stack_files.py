"""Files in which a runtime's process writes its own stack when it crashes or is stuck.

No other thread walks the stack of a running one, because that has crashed the process.
``faulthandler``'s handlers run in C, in the thread whose stack they write, and need no GIL:

- one for the signals that kill a process, in the thread that gets them;
- one for our own signal, which the supervisor sends to the main thread just before it stops the
  process.

Each has its own file in memory, created before the fork, so that no descriptor is needed when the
process is in trouble, and the supervisor can read what a dead process has written. If both used one
file, their texts could mix.
"""

from __future__ import annotations

import os

from watchdog_lambda._cpython.stack_dump import reserved, spare_signal
from watchdog_lambda._cpython.stacks import stack_in
from watchdog_lambda._engine.clock import SystemClock

from .kernel import handles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from watchdog_lambda._cpython.stacks import Stack

    from .kernel import Kernel

_MOST_BYTES: Final = 65_536
_LOOK_AGAIN: Final = 0.001


class StackFiles:
    """The two files.

    Raises:
        OSError, AttributeError: the system has no files in memory.
    """

    __slots__ = ("_crash", "_stuck", "shows_crashes")

    def __init__(self) -> None:
        import faulthandler  # noqa: PLC0415 - only if used

        self._stuck = os.memfd_create("watchdog_lambda.stuck")
        self._crash = os.memfd_create("watchdog_lambda.crash")
        # PYTHONFAULTHANDLER asks for crashes on standard error: see show_crash().
        self.shows_crashes = faulthandler.is_enabled()

    # ---- the runtime's process ---------------------------------------------------------------

    def catch(self) -> int:
        """Install both handlers in this process. Return the signal that makes it write its stack.

        0 if there is no free signal. Thread: main, before any other.
        """
        import faulthandler  # noqa: PLC0415 - loaded by then

        faulthandler.enable(file=self._crash, all_threads=False)
        os.register_at_fork(after_in_child=self._drop)
        number = spare_signal()
        if number is None:
            return 0
        reserved.add(number)
        faulthandler.register(number, file=self._stuck, all_threads=False, chain=False)
        return number

    def _drop(self) -> None:
        """Redirect the files in a process that the handler forks: its crash is not ours."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
        except OSError:
            return
        for descriptor in (self._stuck, self._crash):
            try:
                os.dup2(nowhere, descriptor, inheritable=False)
            except OSError:
                pass  # the handler's code has closed it
        os.close(nowhere)

    # ---- the supervisor ----------------------------------------------------------------------

    def clear(self) -> None:
        """Empty the files for the next process."""
        for descriptor in (self._stuck, self._crash):
            os.ftruncate(descriptor, 0)
            # The process that writes shares the position with us.
            os.lseek(descriptor, 0, os.SEEK_SET)

    def ask_for_stuck(self, kernel: Kernel, pid: int, number: int, within: float) -> None:
        """Make a process's main thread write its stack, and wait at most `within` seconds for it.

        `number` is what :meth:`catch` has returned there; with 0 this does nothing.
        """
        # Code that takes a signal and restores what Python knew about it leaves the default action
        # behind, and then this signal would kill the process.
        if not number or not handles(pid, number):
            return
        os.ftruncate(self._stuck, 0)
        os.lseek(self._stuck, 0, os.SEEK_SET)
        try:
            kernel.signal_main_thread(pid, number)
        except OSError:
            return  # it has ended
        until, size = SystemClock.monotonic() + within, 0
        while SystemClock.monotonic() < until:
            SystemClock.pause(_LOOK_AGAIN)
            now = os.fstat(self._stuck).st_size
            if now and now == size:
                return
            size = now

    def stuck(self) -> Stack:
        """Return the main thread's stack at the signal; empty if it has written none."""
        return stack_in(_text(self._stuck))

    def crash(self) -> Stack:
        """Return the stack of the crashed thread; empty if it has written none."""
        return stack_in(_text(self._crash))

    def show_crash(self) -> None:
        """Write the stack of a crash to standard error, if PYTHONFAULTHANDLER asks for that."""
        if self.shows_crashes:
            try:
                os.write(2, _text(self._crash).encode())
            except OSError:
                pass  # there is no reader


def _text(descriptor: int) -> str:
    try:
        return os.pread(descriptor, _MOST_BYTES, 0).decode("ascii", "replace")
    except OSError:
        return ""
