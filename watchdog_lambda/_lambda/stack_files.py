"""Where a runtime's process was when it crashed or was stuck, written down by itself.

Nobody walks the stack of a thread that runs: a walk from outside of it has crashed the process.
``faulthandler``'s handlers run in C, in the thread whose stack they write, and need no GIL:

- one for the signals that end a process, in whichever thread they come;
- one for a signal of our own, which the supervisor sends to the main thread just before it stops
  the process.

Each has a file of its own in memory, made before the fork, so that no descriptor is needed when the
process is in distress, and the supervisor can read what a dead process has written. One file for
both would have the one text garble the other where they come together.
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
        import faulthandler  # noqa: PLC0415 - for those who use it

        self._stuck = os.memfd_create("watchdog_lambda.stuck")
        self._crash = os.memfd_create("watchdog_lambda.crash")
        # Somebody has asked for crashes on standard error (PYTHONFAULTHANDLER): see show_crash().
        self.shows_crashes = faulthandler.is_enabled()

    # ---- the runtime's process ---------------------------------------------------------------

    def catch(self) -> int:
        """Have both written in this process; the number of the signal that asks for the stack.

        0 if there is no signal to be had. Thread: main, before any other.
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
        """In a process that the handler forks: its crash is not the runtime's."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
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
        """Make room for what the next process writes."""
        for descriptor in (self._stuck, self._crash):
            os.ftruncate(descriptor, 0)
            # The position is shared with the process that writes.
            os.lseek(descriptor, 0, os.SEEK_SET)

    def ask_for_stuck(self, kernel: Kernel, pid: int, number: int, within: float) -> None:
        """Have a process's main thread write down where it is, and wait for that so many seconds.

        `number` is what :meth:`catch` has returned there; 0 asks for nothing.
        """
        # Code that takes every signal and puts back what Python knew of it leaves the default
        # action behind, by which this one would end the process.
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
        """Where the main thread was when the signal came; empty if it has not written."""
        return stack_in(_text(self._stuck))

    def crash(self) -> Stack:
        """Where the thread was that has crashed; empty if nothing has been written."""
        return stack_in(_text(self._crash))

    def show_crash(self) -> None:
        """Write what a crash has left to standard error, if somebody had asked for that."""
        if self.shows_crashes:
            try:
                os.write(2, _text(self._crash).encode())
            except OSError:
                pass  # nobody reads it


def _text(descriptor: int) -> str:
    try:
        return os.pread(descriptor, _MOST_BYTES, 0).decode("ascii", "replace")
    except OSError:
        return ""
