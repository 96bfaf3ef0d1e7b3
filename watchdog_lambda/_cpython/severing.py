"""Ends what a thread's system call waits for: its connection, or a child process.

C clients that repeat their system call after a signal and never check for signals (libpq, MySQL's,
``system()``) cannot be interrupted. If its connection is shut down, such a call reads an end of
file and gives up, and the interrupt lands at the next bytecode.

A false cut is impossible, or does no harm:

- First our own descriptor holds the object (a pidfd for a child), so that it stays the same object
  even if its number is reused, and no other object gets its identity.
- Only then the thread is nudged once more. The object is cut only if, according to the kernel, the
  thread has run since, if it waits again in the same call, and if its descriptor still refers to
  the held object. So the call is known to restart on this very object without checking for signals.
- The last check is made under the invocation's lock, right before the cut: the thread has not run
  since (the kernel counts that, too), and the handler has not settled. If the call returns in the
  few microseconds that are left, it returns to a pending interrupt, in an invocation that is out of
  time, and the record says that its connection was cut.

The following are never cut: a listening socket, a datagram socket (the resolver would spin on it),
a socket pair (it has no name: a process's own channel, or a supervisor's), a connection to the
Runtime API, standard input and output, a pipe, a file, and a process that was not started by this
one since the invocation began.

Thread: watchdog.
"""

from __future__ import annotations

import os
import stat
import sys

from . import syscalls
from .children import held_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .children import Child
    from .syscalls import Blocked

_AF_UNIX = 1
_SOL_SOCKET, _SO_ACCEPTCONN = 1, 30
_IPPROTO_TCP, _TCP_INFO = 6, 11
_SYN_SENT = 2
_SHUT_RDWR = 2
_SOCK_STREAM = 1
_STANDARD = 2
_MOST = 16
"""The most sockets of one wait. A call that waits for more is not a client's."""


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    import _socket  # noqa: PLC0415 - not needed before there is something to watch

    del _socket


class Connection:
    """A socket that a call waits for, held by our own descriptor."""

    __slots__ = ("_descriptor", "_identity", "_socket", "name")

    def __init__(self, descriptor: int, held: Any, name: str) -> None:
        self._descriptor = descriptor
        self._socket = held
        self._identity = _identity(held.fileno())
        self.name = name

    def is_still_there(self) -> bool:
        """Return whether the thread's descriptor still refers to this socket."""
        try:
            return _identity(self._descriptor) == self._identity
        except OSError:
            return False

    def end(self) -> bool:
        """Shut it down; False if the peer has closed it already."""
        try:
            self._socket.shutdown(_SHUT_RDWR)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close our descriptor; the thread's own stays open."""
        self._socket.close()


class Wait:
    """One wait of a thread, and the objects whose end would end it."""

    __slots__ = ("_awaited", "_native_id", "_turns", "held", "unheard")

    def __init__(
        self,
        native_id: int,
        awaited: tuple[object, ...],
        turns: int,
        held: list[Connection | Child],
        unheard: int,
    ) -> None:
        self._native_id = native_id
        self._awaited = awaited
        self._turns = turns
        self.held = held
        self.unheard = unheard
        """How many nudges had had no effect by then."""

    def has_begun_anew(self) -> bool:
        """Return whether the thread has run since, and waits for the same thing again."""
        turns = syscalls.turns(self._native_id)
        if turns is None or turns <= self._turns or not self._is_the_same():
            return False
        # From now on the thread must not run.
        self._turns = turns
        return self.is_unmoved()

    def is_unmoved(self) -> bool:
        """Return whether the thread waits as at the last look, and has not run since."""
        is_same = self._is_the_same()
        # Read the count after the call: then what was read cannot belong to a later call.
        return is_same and syscalls.turns(self._native_id) == self._turns

    def end(self) -> list[str]:
        """End what the thread waits for. Return the names of what was ended."""
        return [held.name for held in self.held if held.end()]

    def close(self) -> None:
        """Release the held objects."""
        for held in self.held:
            held.close()
        self.held.clear()

    def __del__(self) -> None:
        # close() is not called if the timeout ends first.
        self.close()

    def _is_the_same(self) -> bool:
        blocked = syscalls.blocked_in(self._native_id)
        if blocked is None or _awaited(blocked) != self._awaited:
            return False
        return all(held.is_still_there() for held in self.held)


def hold(native_id: int, unheard: int, *, since: float, spared: set[str]) -> Wait | None:
    """Hold what a thread waits for, to end it later; None if it must not be ended.

    `since` is the start of the invocation, in seconds since the machine's start. `spared` has the
    names of peers that must not be cut.
    """
    turns = syscalls.turns(native_id)
    blocked = syscalls.blocked_in(native_id)
    if blocked is None or turns is None:
        return None
    held: list[Connection | Child] = []
    pid = blocked.child()
    if pid is not None:
        child = held_child(pid, since)
        held += [child] if child is not None else []
    descriptors = blocked.descriptors()
    if len(descriptors) <= _MOST:
        connections = [_connection(each, spared) for each in descriptors]
        held += [connection for connection in connections if connection is not None]
    return Wait(native_id, _awaited(blocked), turns, held, unheard) if held else None


def _awaited(blocked: Blocked) -> tuple[object, ...]:
    """Describe what a call waits for, without its limit, which a client may compute anew."""
    return blocked.number, blocked.child(), *blocked.descriptors()


def _connection(descriptor: int, spared: set[str]) -> Connection | None:
    """Hold a socket, if it may be cut."""
    if descriptor <= _STANDARD:
        return None
    socket = sys.modules["_socket"]
    held: Any = None
    try:
        copy = os.dup(descriptor)
        try:
            if stat.S_ISSOCK(os.fstat(copy).st_mode):
                held = socket.socket(fileno=copy)
        finally:
            if held is None:
                os.close(copy)
        peer = None if held is None else _peer(held)
        if peer is not None and peer not in spared:
            return Connection(descriptor, held, peer)
    except OSError:
        pass  # the descriptor has been closed
    if held is not None:
        held.close()
    return None


def _peer(held: Any) -> str | None:
    """Return the name of a socket's peer; None if it has none, or must not be cut."""
    if held.type & 0xF != _SOCK_STREAM or held.getsockopt(_SOL_SOCKET, _SO_ACCEPTCONN):
        return None
    try:
        address: Any = held.getpeername()
    except OSError:
        return _peer_to_be(held)
    if isinstance(address, str | bytes):
        # A path or an abstract name. Socket pairs have none, nor has the peer of a server's end.
        return os.fsdecode(address) or None
    host, port = str(address[0]), str(address[1])
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _peer_to_be(held: Any) -> str | None:
    """Return the peer of a socket that is still connecting, from the kernel's table."""
    if held.family == _AF_UNIX:
        return None
    if held.getsockopt(_IPPROTO_TCP, _TCP_INFO, 1)[0] != _SYN_SENT:
        return None
    inode = str(os.fstat(held.fileno()).st_ino)
    for line in syscalls.read("/proc/self/net/tcp").splitlines()[1:]:
        fields = line.split()
        if fields[9] == inode:
            host, _, port = fields[2].partition(":")
            octets = int(host, 16).to_bytes(4, sys.byteorder)
            return f"{'.'.join(map(str, octets))}:{int(port, 16)}"
    return "a server that has not answered"  # over IPv6


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
