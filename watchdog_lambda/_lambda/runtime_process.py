"""The runtime's process, as its supervisor starts, stops and kills it, with all its descendants.

A descendant whose parent ends becomes the supervisor's own child (``PR_SET_CHILD_SUBREAPER``), even
in its own session. So nothing that a handler starts survives the runtime's process. Only a daemon
that the init has started in its own session does: it belongs to the user.
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
"""The type of wait4()'s result. Without this line wait4() would import the module, after the fork.
Pinned by test_supervisor_imports_nothing_after_the_fork."""

_LOOK_AGAIN: Final = 0.0005
"""Seconds between two checks whether a process has stopped or ended."""
_ENDS_WITHIN: Final = 0.02
"""Seconds that the handler's processes have to end before a fresh process begins. Those that take
longer are found when they are reaped."""


class Ended:
    """The end of a process."""

    __slots__ = ("exit_code", "peak_kb")

    def __init__(self, exit_code: int, peak_kb: int) -> None:
        self.exit_code = exit_code  # or the negative number of a signal
        self.peak_kb = peak_kb

    def mirror(self, kernel: Kernel) -> NoReturn:
        """Exit like that process, so that the platform reports about us what it would about it."""
        number = -self.exit_code
        if number > 0:
            kernel.leave_no_core()
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # SIGKILL
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
            os.kill(os.getpid(), number)
            # Process 1 of a container has no default actions, so the signal may have no effect.
            os._exit(128 + number)
        os._exit(self.exit_code)


class RuntimeProcess:
    """The current process of the runtime. Thread: the supervisor's only one."""

    def __init__(self) -> None:
        self.pid = 0
        # If SIGCHLD was ignored when we were started, the kernel would reap children by itself.
        self._ignores = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        self._served_pid = 0
        self._served_at = 0.0  # when the previous process's first event came; 0.0 if none did

    def start(self, mask: set[int]) -> bool:
        """Fork. Returns True in the new process, in which the signals in `mask` are blocked.

        Raises:
            OSError: no process can be started.
        """
        if self._ignores:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A garbage collection writes to every object that it examines, so each process would get
        # its own copy of all those pages. Exclude all current objects from collections.
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            if self._ignores:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            # Both processes do this, so that it is done whichever continues first.
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
        """Stop it, and wait until it cannot run; False if it has ended, or does not stop.

        A system call that cannot be interrupted (on a dead network file system) must return before
        the process stops.
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
        """Let a stopped process continue."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to this process only, if it still exists."""
        try:
            os.kill(self.pid, number)
        except OSError:
            pass

    def end(self, served_at: float, served_pid: int, *, has_ended: bool) -> None:
        """Kill it and everything that it has started since `served_at`, when its first event came.

        `served_pid` is the last process that had been started by then.

        This does not wait for its end, because the kernel may take long to free gigabytes, and the
        deadline is near. :meth:`reap` kills the processes that become our children once it has
        ended.
        """
        self._served_at, self._served_pid = served_at, served_pid
        _kill(os.killpg, self.pid)
        if not has_ended:
            _kill(os.kill, self.pid)
        # A killed process may have started another one just before, which is found in another pass.
        until = SystemClock.monotonic() + _ENDS_WITHIN
        while self._kill_descendants() and SystemClock.monotonic() < until:
            SystemClock.pause(_LOOK_AGAIN)

    def _kill_descendants(self) -> bool:
        """Kill what the handler has started. Return whether there was anything."""
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
        """Reap every child that has ended. Return the end of the runtime's, if it is among them."""
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
            # The children of the processes just reaped are now ours.
            for pid in processes_by_parent().get(os.getpid(), ()):
                if self._is_older(pid) and self._is_the_handlers(pid):
                    _kill(os.kill, pid)
        return found

    def _is_older(self, pid: int) -> bool:
        """Return whether a process was started before the current runtime's."""
        at, present = started_at(pid), started_at(self.pid)
        # If that has ended as well, everything is examined again before it is replaced.
        if at is None or present is None or at > present:
            return False
        return at < present or pid < self.pid

    def _is_the_handlers(self, pid: int) -> bool:
        """Return whether a process was started after the first event, so not by the init."""
        at = started_at(pid)
        if at is None or not self._served_at or at + 1 / TICKS < self._served_at:
            return False
        # The start times are coarse; if they are equal, the order of the pids decides.
        return at >= self._served_at or pid > self._served_pid


def _kill(kill: Callable[[int, int], None], pid: int) -> None:
    try:
        kill(pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended already
