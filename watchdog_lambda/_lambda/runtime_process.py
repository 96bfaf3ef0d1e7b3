"""The runtime's process as its supervisor has it: started, stopped, ended, with all it has started.

A descendant whose parent ends becomes the supervisor's own child (``PR_SET_CHILD_SUBREAPER``), even
if it has made a session of its own. So nothing that a handler starts survives the process that it
was started in, but for what the init has started in a session of its own: such a daemon is the
user's, who may have it look after itself.
"""

from __future__ import annotations

import gc
import os
import resource

from watchdog_lambda._cpython.children import processes_by_parent
from watchdog_lambda._engine.clock import SystemClock

from .kernel import TICKS, started_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Final, NoReturn

    from .kernel import Kernel
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start


USAGE: Final = resource.struct_rusage
"""What wait4() gives. Without this line it would import the module, after the fork. Pinned by
test_the_supervisor_imports_nothing_after_the_fork."""

_LOOK_AGAIN: Final = 0.0005
"""Seconds between two looks at whether a process has stopped, or ended."""
_ENDS_WITHIN: Final = 0.02
"""Seconds for what the handler has started to end, before a fresh process begins. What takes longer
is found when it has been waited for."""


class Ended:
    """How a process has ended."""

    __slots__ = ("exit_code", "peak_kb")

    def __init__(self, exit_code: int, peak_kb: int) -> None:
        self.exit_code = exit_code  # or the signal's number, negative
        self.peak_kb = peak_kb

    def mirror(self, kernel: Kernel) -> NoReturn:
        """End as that process has: the platform then says of us what it would have said of it."""
        number = -self.exit_code
        if number > 0:
            kernel.leave_no_core()
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # SIGKILL
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
            os.kill(os.getpid(), number)
            # Process 1 of a container has no default actions.
            os._exit(128 + number)
        os._exit(self.exit_code)


class RuntimeProcess:
    """The process that runs the runtime, one after the other. Thread: the supervisor's only one."""

    def __init__(self) -> None:
        self.pid = 0
        # Whoever has started us may ignore it, and the kernel would then bury children unseen.
        self._ignores = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        self._served_pid = 0
        self._served_at = 0.0  # when the first event of the one before came; 0.0 if there was none

    def start(self, mask: set[int]) -> bool:
        """Fork; True in the new process, with the signals blocked that are in `mask`.

        Raises:
            OSError: no process can be had.
        """
        if self._ignores:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Collecting garbage writes to every object that it looks at, and each process would have to
        # keep all those pages for itself. What there is by now is not looked at any more.
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            if self._ignores:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            # In both, so that it is done whoever of the two goes on first.
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return True
        try:
            os.setpgid(pid, pid)
        except OSError:
            pass  # it has ended already
        self.pid = pid
        return False

    def stop(self, within: float) -> bool:
        """Stop it, and wait until it cannot run any more; False if it has ended, or does not stop.

        A call of the system's that cannot be interrupted (a dead network file system) is seen to
        its end before the process stops.
        """
        os.kill(self.pid, signal.SIGSTOP)
        until = SystemClock.monotonic() + within
        while True:
            found = os.waitid(
                os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
            )
            if found is not None:
                return found.si_code == os.CLD_STOPPED
            if SystemClock.monotonic() >= until:
                return False
            SystemClock.pause(_LOOK_AGAIN)

    def go_on(self) -> None:
        """Take a stop back."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to it alone, if it is still there."""
        try:
            os.kill(self.pid, number)
        except OSError:
            pass

    def end(self, served_at: float, served_pid: int, *, has_ended: bool) -> None:
        """Kill it and whatever it has started since `served_at`, when its first event came.

        `served_pid` is the last process that had been started by then.

        It is not waited for: the kernel takes long to free gigabytes, and the deadline does not
        wait. What comes to be ours once it has ended is killed by :meth:`reap`.
        """
        self._served_at, self._served_pid = served_at, served_pid
        _kill(os.killpg, self.pid)
        if not has_ended:
            _kill(os.kill, self.pid)
        # What is killed may have started something a moment before, which is found once it is gone.
        until = SystemClock.monotonic() + _ENDS_WITHIN
        while self._kill_descendants() and SystemClock.monotonic() < until:
            SystemClock.pause(_LOOK_AGAIN)

    def _kill_descendants(self) -> bool:
        """Kill what the handler has started; whether there was anything."""
        children = processes_by_parent()
        pending = [*children.get(self.pid, ()), *children.get(os.getpid(), ())]
        found = False
        while pending:
            pid = pending.pop()
            if pid != self.pid and self._is_the_handlers(pid):
                found = True
                _kill(os.kill, pid)
                pending += children.get(pid, ())
        return found

    def reap(self) -> Ended | None:
        """Take note of every child that has ended; how the runtime's has, if it is among them."""
        found: Ended | None = None
        has_lost = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.pid:
                found = Ended(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
            else:
                has_lost = True
        if has_lost and self._served_at:
            # The children of what has just been buried are ours now.
            for pid in processes_by_parent().get(os.getpid(), ()):
                if self._is_older(pid) and self._is_the_handlers(pid):
                    _kill(os.kill, pid)
        return found

    def _is_older(self, pid: int) -> bool:
        """Whether a process was started before the one that is there now."""
        at, present = started_at(pid), started_at(self.pid)
        # Where that has ended as well, everything is looked at again before it is replaced.
        if at is None or present is None or at > present:
            return False
        return at < present or pid < self.pid

    def _is_the_handlers(self, pid: int) -> bool:
        """Whether a process was started since the first event came, and not by the init."""
        at = started_at(pid)
        if at is None or not self._served_at or at + 1 / TICKS < self._served_at:
            return False
        # Where the clock behind it is too coarse, the order in which pids are given out decides.
        return at >= self._served_at or pid > self._served_pid


def _kill(kill: Callable[[int, int], None], pid: int) -> None:
    try:
        kill(pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended by itself
