"""Child processes that a call waits for: whose they are, and how one is ended."""

from __future__ import annotations

import os

from . import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start


class Child:
    """A process whose end a call waits for, held."""

    __slots__ = ("_descriptor", "_pid", "name")

    def __init__(self, pid: int, descriptor: int, name: str) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self.name = name

    def is_still_there(self) -> bool:
        """Whether it still is a child of this process."""
        return parent_and_start(self._pid)[0] == os.getpid()

    def end(self) -> bool:
        """End it, and what it has started itself; False if it has ended."""
        # Looked up just before, so that their pids are not given to others by then.
        descendants = _descendants(self._pid)
        try:
            # It first: a shell whose command ends goes on with the next one, or ends by itself.
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except OSError:
            return False
        for pid in descendants:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass  # it has ended by itself
        return True

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


def held_child(pid: int, since: float) -> Child | None:
    """A child of this process that has begun since an instant, held; None if it is none."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None
    # Behind the opening: the pidfd's process is the one that is looked at, or it has ended.
    parent, began = parent_and_start(pid)
    if parent == os.getpid() and began >= since:
        name = syscalls.read(f"/proc/{pid}/comm").strip()
        return Child(pid, descriptor, f"process {pid} ({name})")
    os.close(descriptor)
    return None


def parent_and_start(pid: int) -> tuple[int, float]:
    """A process's parent, and when it began, in seconds since the machine's start."""
    # Behind the name, in brackets, which may hold anything.
    fields = syscalls.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        return 0, 0.0
    return int(fields[1]), (int(fields[19]) + 1) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> list[int]:
    """The processes that one has started, and theirs."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            parents[int(name)] = parent_and_start(int(name))[0]
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})
