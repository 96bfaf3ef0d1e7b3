"""Sockets, TLS and names; every peer is on loopback and says nothing."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

from benchmarks.limits.registry import Group, Unavailable, keep

from .threads import LONG

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

group = Group("Sockets, TLS and DNS")


def silent_server() -> tuple[str, int]:
    """The address of a server that lets everybody connect, and never answers."""
    server = keep(socket.create_server(("127.0.0.1", 0), backlog=128))
    host, port = server.getsockname()
    return host, port


def silent_connection() -> socket.socket:
    """A connection to such a server."""
    return keep(socket.create_connection(silent_server()))


@group.call(quick=True)
def recv() -> Block:
    """`socket.recv()`."""
    connection = silent_connection()
    return lambda: connection.recv(1)


@group.call()
def recv_timeout() -> Block:
    """`socket.recv()` with a timeout of 60 s."""
    connection = silent_connection()
    connection.settimeout(LONG)
    return lambda: connection.recv(1)


@group.call()
def makefile() -> Block:
    """`socket.makefile().readline()`."""
    return keep(silent_connection().makefile()).readline


@group.call()
def sendall() -> Block:
    """`socket.sendall()` to a peer that does not read."""
    connection = silent_connection()
    plenty = bytes(64 * 1024 * 1024)
    return lambda: connection.sendall(plenty)


@group.call()
def accept() -> Block:
    """`socket.accept()`."""
    return keep(socket.create_server(("127.0.0.1", 0))).accept


@group.call()
def connect() -> Block:
    """`socket.connect()` to a host that drops it (a full backlog)."""
    server = keep(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        early = keep(socket.socket())
        early.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            early.connect(server.getsockname())
    return lambda: keep(socket.socket()).connect(server.getsockname())


@group.call()
def tls_handshake() -> Block:
    """A TLS handshake."""
    connection = silent_connection()
    return lambda: ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")


@group.call()
def tls_read() -> Block:
    """`SSLSocket.read()`."""
    return _tls_connection().read


@group.call()
def tls_write() -> Block:
    """`SSLSocket.sendall()` to a peer that does not read."""
    connection = _tls_connection()
    plenty = bytes(64 * 1024 * 1024)
    return lambda: connection.sendall(plenty)


def _tls_connection() -> ssl.SSLSocket:
    """A connection that has been through its handshake, with a peer that then says nothing."""
    here, there = map(keep, socket.socketpair())
    peer = threading.Thread(
        target=lambda: keep(
            _anonymous(ssl.PROTOCOL_TLS_SERVER).wrap_socket(there, server_side=True)
        )
    )
    peer.start()
    connection = _anonymous(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(here)
    peer.join()
    return keep(connection)


def _anonymous(side: Any) -> ssl.SSLContext:
    # Neither side has a certificate, so none has to be made; TLS 1.3 cannot do without.
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


@group.call(quick=True)
def getaddrinfo() -> Block:
    """`socket.getaddrinfo()`, with a DNS server that does not answer."""
    resolver = keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    resolver.bind(("127.0.0.1", 0))
    _ask_for_names(resolver.getsockname()[1])
    return lambda: socket.getaddrinfo("nobody.example", 80)


class _ResolverState(ctypes.Structure):
    """The beginning of glibc's ``struct __res_state``, up to the first server."""

    _fields_ = (
        ("retrans", ctypes.c_int),
        ("retry", ctypes.c_int),
        ("options", ctypes.c_ulong),
        ("servers", ctypes.c_int),
        ("family", ctypes.c_uint16),
        ("port", ctypes.c_uint16),
        ("address", ctypes.c_uint32),
    )


def _ask_for_names(port: int) -> None:
    """Have this thread's look-ups go to a port on loopback, in the place of /etc/resolv.conf."""
    libc = ctypes.CDLL(None)
    try:
        libc["__res_init"]()
        find = libc["__res_state"]
    except AttributeError:
        raise Unavailable("not glibc: its resolver cannot be sent elsewhere") from None
    find.restype = ctypes.POINTER(_ResolverState)
    state = find().contents
    state.retrans, state.retry, state.servers = 5, 2, 1
    state.family, state.port = socket.AF_INET, socket.htons(port)
    state.address = int.from_bytes(socket.inet_aton("127.0.0.1"), "little")
