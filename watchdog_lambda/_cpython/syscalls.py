"""Reads from ``/proc`` which system call a thread of this process is blocked in.

``/proc/self/task/TID/syscall`` shows the call's number and arguments while the thread is off the
processor in a system call, and ``running`` otherwise. Memory that the arguments point to is read
through ``/proc/self/mem``: if the call has returned and its memory is unmapped by then, this gives
an error, where a pointer would crash.

Nothing in here raises: if the kernel does not tell, the result says that nothing is known.

Thread: any.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE = os.uname().machine  # asked once: it releases the GIL
_X86_64 = {
    0: "read",
    1: "write",
    7: "poll",
    19: "readv",
    20: "writev",
    23: "select",
    42: "connect",
    44: "sendto",
    45: "recvfrom",
    46: "sendmsg",
    47: "recvmsg",
    61: "wait4",
    232: "epoll_wait",
    247: "waitid",
    270: "pselect6",
    271: "ppoll",
    281: "epoll_pwait",
    299: "recvmmsg",
    441: "epoll_pwait2",
}
_ARM64 = {
    22: "epoll_pwait",
    63: "read",
    64: "write",
    65: "readv",
    66: "writev",
    72: "pselect6",
    73: "ppoll",
    95: "waitid",
    203: "connect",
    206: "sendto",
    207: "recvfrom",
    211: "sendmsg",
    212: "recvmsg",
    243: "recvmmsg",
    260: "wait4",
    441: "epoll_pwait2",
}
NAMES: dict[str, dict[int, str]] = {"x86_64": _X86_64, "aarch64": _ARM64}
"""The calls of interest by machine, from the kernel's ``unistd.h``, for 64-bit code."""

_ON_ONE = {
    *("read", "write", "readv", "writev", "connect"),
    *("sendto", "recvfrom", "sendmsg", "recvmsg", "recvmmsg"),
}
_MILLISECONDS = {"poll": 2, "epoll_wait": 3, "epoll_pwait": 3}
# Which argument points to a timespec or timeval, and the unit of its fraction of a second.
_POINTED_TO = {
    "ppoll": (2, 1e-9),
    "pselect6": (4, 1e-9),
    "epoll_pwait2": (3, 1e-9),
    "select": (4, 1e-6),
}
_MOST_DESCRIPTORS = 1024
_P_PID = 1  # of waitid


class Blocked:
    """One wait of one thread: the call and its arguments."""

    __slots__ = ("arguments", "name", "number")

    def __init__(self, number: int, arguments: tuple[int, ...], name: str) -> None:
        self.number = number
        self.arguments = arguments
        self.name = name

    def limit(self) -> float | None:
        """Return the seconds after which a wait for descriptors ends by itself; None without limit.

        This is the limit of the whole wait, not the time that is left.
        """
        index = _MILLISECONDS.get(self.name)
        if index is not None:
            return _none_if_negative(_signed(self.arguments[index]) / 1000)
        pointed_to = _POINTED_TO.get(self.name)
        if pointed_to is None:
            return None
        index, unit = pointed_to
        content = _memory(self.arguments[index], 16)
        if content is None:
            return None
        seconds, fraction = (
            int.from_bytes(content[at : at + 8], sys.byteorder, signed=True) for at in (0, 8)
        )
        return _none_if_negative(seconds + fraction * unit)

    def descriptors(self) -> list[int]:
        """Return the descriptors it waits for; empty for a child process, or if not known."""
        return [fd for fd in self._descriptors() if fd >= 0][:_MOST_DESCRIPTORS]

    def child(self) -> int | None:
        """Return the child it waits for; None if it waits for any child, or for something else."""
        if self.name == "wait4":
            pid = _signed(self.arguments[0])
        elif self.name == "waitid" and self.arguments[0] == _P_PID:
            pid = _signed(self.arguments[1])
        else:
            return None
        return pid if pid > 0 else None

    def _descriptors(self) -> Iterator[int]:
        name, arguments = self.name, self.arguments
        if name in _ON_ONE:
            yield _signed(arguments[0])
        elif name in {"poll", "ppoll"}:
            count = min(arguments[1], _MOST_DESCRIPTORS)
            polled = _memory(arguments[0], 8 * count) or b""
            for at in range(0, len(polled), 8):
                yield int.from_bytes(polled[at : at + 4], sys.byteorder, signed=True)
        elif name in {"select", "pselect6"}:
            count = min(_signed(arguments[0]), _MOST_DESCRIPTORS)
            for pointer in arguments[1:4]:
                bits = _memory(pointer, (count + 63) // 64 * 8) or b""
                number = int.from_bytes(bits, "little")
                yield from (fd for fd in range(count) if number >> fd & 1)
        elif name.startswith("epoll"):
            yield from _in_epoll(arguments[0])


def blocked_in(native_id: int) -> Blocked | None:
    """Return the call of interest that a thread is blocked in now; None if it is in none."""
    names = NAMES.get(MACHINE)
    line = read(f"/proc/self/task/{native_id}/syscall").split()
    if names is None or len(line) < 7:
        return None  # "running", or no such file
    try:
        name = names.get(int(line[0]))
        arguments = tuple(int(argument, 16) for argument in line[1:7])
    except ValueError:
        return None
    return None if name is None else Blocked(int(line[0]), arguments, name)


def is_told() -> bool:
    """Return whether the kernel tells which call a thread is in. In some sandboxes it does not."""
    return bool(read("/proc/thread-self/syscall"))


def turns(native_id: int) -> int | None:
    """Return how many waits a thread has begun; None if the kernel does not tell.

    If the number is the same twice, the thread is still in the same wait.
    """
    for line in read(f"/proc/self/task/{native_id}/status").splitlines():
        # This counts how often the thread has gone to sleep by itself: once for each wait.
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.rpartition("\t")[2])
    return None


def state_of(native_id: int) -> str:
    """Return a thread's state as in ``ps``: R if it runs or could run, S if it waits."""
    # It comes after the name, which is in parentheses and may contain anything.
    fields = read(f"/proc/self/task/{native_id}/stat").rpartition(")")[2].split()
    return fields[0] if fields else ""


def threads() -> list[int]:
    """Return the native ids of this process's threads."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return []


def read(path: str) -> str:
    """Return the content of one of the kernel's files; empty if there is none."""
    try:
        from . import libc  # noqa: PLC0415 - preloaded, as the watchdog needs it to fire
    except ImportError:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""
    return libc.content_of(path).decode(errors="replace")


def _in_epoll(descriptor: int) -> Iterator[int]:
    for line in read(f"/proc/self/fdinfo/{descriptor}").splitlines():
        # There is a line "tfd:        7 events:       19 data: ..." for each descriptor.
        if line.startswith("tfd:"):
            yield int(line.split()[1])


def _signed(argument: int) -> int:
    """Decode an ``int`` as the kernel does: from the register's lower half."""
    low = argument & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _none_if_negative(seconds: float) -> float | None:
    return seconds if seconds >= 0 else None


def _memory(address: int, size: int) -> bytes | None:
    """Read `size` bytes of this process at `address`; None if there are none."""
    if not address or size <= 0:
        return None
    try:
        descriptor = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            content = os.pread(descriptor, size, address)
        finally:
            os.close(descriptor)
    except (OSError, OverflowError):
        return None
    return content if len(content) == size else None
