"""Sockets, TLS, names and HTTP clients; every peer is on loopback, accepts and says nothing."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import socket
import ssl
import threading
import urllib.request
from functools import partial
from typing import Any

from benchmarks.limits.registry import LONG, Block, Group, keep

sockets = Group("Sockets, TLS and DNS")


def _silent_server() -> tuple[str, int]:
    """The address of a server that lets everybody connect, and never answers."""
    server = keep(socket.create_server(("127.0.0.1", 0), backlog=128))
    host, port = server.getsockname()
    return host, port


def _silent(timeout: float | None = None) -> socket.socket:
    """A connection to such a server."""
    connection = keep(socket.create_connection(_silent_server()))
    connection.settimeout(timeout)
    return connection


def _handshake(connection: socket.socket) -> object:
    return ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")


def _tls_connection() -> ssl.SSLSocket:
    """A connection that has been through its handshake, with a peer that then says nothing."""
    here, there = map(keep, socket.socketpair())
    server = _anonymous(ssl.PROTOCOL_TLS_SERVER)
    peer = threading.Thread(target=lambda: keep(server.wrap_socket(there, server_side=True)))
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


add = sockets.add
plenty = bytes(64 * 1024 * 1024)
add("recv", "`socket.recv()`", lambda: partial(_silent().recv, 1), quick=True)
about = "`socket.recv()` with a timeout of 60 s"
add("recv-timeout", about, lambda: partial(_silent(LONG).recv, 1))
add("makefile", "`socket.makefile().readline()`", lambda: keep(_silent().makefile()).readline)
about = "`socket.sendall()` to a peer that does not read"
add("sendall", about, lambda: partial(_silent().sendall, plenty))
server = partial(socket.create_server, ("127.0.0.1", 0))
add("accept", "`socket.accept()`", lambda: keep(server()).accept)


@sockets.call()
def connect() -> Block:
    """`socket.connect()` to a host that drops it (a full backlog)."""
    address = keep(server(backlog=0)).getsockname()
    for _ in range(4):
        early = keep(socket.socket())
        early.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            early.connect(address)
    return partial(keep(socket.socket()).connect, address)


add("tls-handshake", "A TLS handshake", lambda: partial(_handshake, _silent()))
add("tls-read", "`SSLSocket.read()`", lambda: _tls_connection().read)
about = "`SSLSocket.sendall()` to a peer that does not read"
add("tls-write", about, lambda: partial(_tls_connection().sendall, plenty))


@sockets.call(quick=True)
def getaddrinfo() -> Block:
    """`socket.getaddrinfo()`, with a DNS server that does not answer."""
    resolver = keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    resolver.bind(("127.0.0.1", 0))
    _ask_for_names(resolver.getsockname()[1])
    return partial(socket.getaddrinfo, "nobody.example", 80)


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
    """Send this thread's look-ups to a port on loopback, whatever /etc/resolv.conf says."""
    libc = ctypes.CDLL(None)  # glibc: another one's resolver cannot be sent elsewhere
    libc["__res_init"]()
    find = libc["__res_state"]
    find.restype = ctypes.POINTER(_ResolverState)
    state = find().contents
    state.retrans, state.retry, state.servers = 5, 2, 1
    state.family, state.port = socket.AF_INET, socket.htons(port)
    state.address = int.from_bytes(socket.inet_aton("127.0.0.1"), "little")


# ---- HTTP ----------------------------------------------------------------------------------------


clients = Group("HTTP clients and AWS's SDK")


def _silent_url() -> str:
    host, port = _silent_server()
    return f"http://{host}:{port}/"


@clients.call()
def http_client() -> Block:
    """`http.client`: `getresponse()`."""
    connection = http.client.HTTPConnection(*_silent_server())
    connection.request("GET", "/")
    return connection.getresponse


@clients.call()
def urlopen() -> Block:
    """`urllib.request.urlopen()`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return partial(opener.open, _silent_url())


def _urllib3(**options: Any) -> Block:
    import urllib3

    return partial(urllib3.PoolManager().request, "GET", _silent_url(), **options)


def _requests(**options: Any) -> Block:
    import requests

    session = requests.Session()
    session.trust_env = False  # no proxy
    return partial(session.get, _silent_url(), **options)


add = clients.add
add("urllib3-get", "`urllib3`: GET", _urllib3, quick=True)
add("urllib3-get-timeout", "`urllib3`: GET, `timeout=60`", lambda: _urllib3(timeout=LONG))
about = "`urllib3`: GET, `retries=False`"
add("urllib3-get-no-retry", about, lambda: _urllib3(retries=False))
add("requests-get", "`requests.get()`", _requests)
add("requests-get-timeout", "`requests.get(..., timeout=60)`", lambda: _requests(timeout=LONG))


@clients.call()
def boto3_call() -> Block:
    """`boto3`: DynamoDB `list_tables()`."""
    import boto3

    client = boto3.client(
        "dynamodb",
        endpoint_url=_silent_url(),
        region_name="eu-west-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",  # noqa: S106 - nobody's
    )
    block: Block = client.list_tables
    return block
