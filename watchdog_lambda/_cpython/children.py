"""Finds and kills child processes that a call waits for."""

from __future__ import annotations

import os

from . import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start


class Child:
    """A child process that a call waits for, held by a pidfd."""

    __slots__ = ("_descriptor", "_pid", "name")

    def __init__(self, pid: int, descriptor: int, name: str) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self.name = name

    def is_still_there(self) -> bool:
        """Return whether it is still a child of this process."""
        return parent_and_start(self._pid)[0] == os.getpid()

    def end(self) -> bool:
        """Kill it, and everything that it has started; False if it has ended."""
        # Look them up just before killing them, so that their pids have not been reused.
        started = descendants(self._pid)
        try:
            # Kill the child first: a shell whose command ends would continue with the next one.
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except OSError:
            return False
        for pid in started:
            kill(pid)
        return True

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def held_child(pid: int, since: float) -> Child | None:
    """Hold a child of this process, started after `since`; None if `pid` is not such a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None
    # Look after opening the pidfd: what is found is the pidfd's process, unless that has ended.
    parent, began = parent_and_start(pid)
    if parent == os.getpid() and began >= since:
        name = syscalls.read(f"/proc/{pid}/comm").strip()
        return Child(pid, descriptor, f"process {pid} ({name})")
    os.close(descriptor)
    return None


def stat_of(pid: int) -> list[str]:
    """Return the kernel's fields about a process, from its state on; empty once it is gone."""
    # They come after the command's name, which is in parentheses and may contain anything.
    return syscalls.read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def parent_and_start(pid: int) -> tuple[int, float]:
    """Return a process's parent, and its start in seconds since the machine's start."""
    fields = stat_of(pid)
    if len(fields) < 20:
        return 0, 0.0
    return int(fields[1]), (int(fields[19]) + 1) / os.sysconf("SC_CLK_TCK")


def processes_by_parent() -> dict[int, list[int]]:
    """Return all visible processes by their parent; none if there is no /proc."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return children
    for name in names:
        if name.isdecimal() and (fields := stat_of(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    return children


def descendants(pid: int, since: float = 0.0) -> list[int]:
    """Return the processes that `pid` has started after `since`, and their descendants."""
    children = processes_by_parent()
    found = [child for child in children.get(pid, ()) if parent_and_start(child)[1] >= since]
    for each in found:
        found += children.get(each, ())
    return found


def kill(pid: int) -> None:
    """Kill a process, unless it has ended already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
