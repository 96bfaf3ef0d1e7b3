"""Severing what a blocked C call waits for: what is severed, what is not, and the gates.

The kernel stands in for C code that repeats its system call after a signal: with ``SA_RESTART`` it
begins a call anew by itself, without returning to Python.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, Context, eventually
from watchdog_lambda import LambdaTimeout, watch
from watchdog_lambda._cpython import severing, syscalls
from watchdog_lambda._cpython.severing import Connection, Wait, hold
from watchdog_lambda._engine.severing import Severing
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def preloaded() -> None:
    severing.preload()


@contextmanager
def repeated_calls() -> Iterator[None]:
    """Have the kernel repeat a call that the nudge has interrupted, as libpq does."""
    watch(lambda _event, _context: None)({}, Context(60.0))  # this installs the nudge
    number = process_watchdog.nudge.number
    assert number is not None
    signal.siginterrupt(number, False)
    try:
        yield
    finally:
        signal.siginterrupt(number, True)


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the client's end of a connection and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with client, peer:
        yield client, peer


class Blocked:
    """A thread that makes a blocking call, until the test ends it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.native_id = 0
        self.result: Any = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        eventually(lambda: syscalls.blocked_in(self.native_id), "the thread to block")

    def _run(self) -> None:
        self.native_id = threading.get_native_id()
        try:
            self.result = self._call()
        except ConnectionError as error:  # a severed connection can be reset
            self.result = error

    def hold(self, *, since: float = 0.0, spared: frozenset[str] = frozenset()) -> Wait | None:
        return hold(self.native_id, 5, since=since, spared=set(spared))

    def held(self, **given: Any) -> list[str]:
        """Return the names of what would be severed."""
        wait = self.hold(**given)
        if wait is None:
            return []
        names = [held.name for held in wait.held]
        wait.close()
        return names

    def join(self) -> None:
        self.thread.join(BOUND)
        assert not self.thread.is_alive()


STOPS = """
import os, signal, sys, time
process = int(sys.argv[1])
os.kill(process, signal.SIGSTOP)
time.sleep(0.05)
os.kill(process, signal.SIGCONT)
"""


def repeat_call(blocked: Blocked) -> None:
    """Stop and continue the process, so that the call is repeated as after a nudge."""
    turns = syscalls.turns(blocked.native_id)
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            STOPS,
            str(os.getpid()),
        ]
    )
    child.wait(BOUND)
    eventually(lambda: syscalls.turns(blocked.native_id) != turns, "the call to return")
    eventually(lambda: syscalls.blocked_in(blocked.native_id), "the call to block again")


# ---- real timeouts -----------------------------------------------------------------------------


def answered(handler: Callable[[], object], seconds: float = 2.0, **options: Any) -> float:
    """Return the seconds until a handler in C ended, which must be with a LambdaTimeout."""
    began = time.monotonic()
    with repeated_calls(), pytest.raises(LambdaTimeout, match="interrupted after"):
        watch(**options)(lambda _event, _context: handler())({}, Context(seconds))
    return time.monotonic() - began


def record(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    [line] = [line for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    told: dict[str, Any] = json.loads(line)
    return told


def test_connection_awaited_by_c_code_is_shut_down(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A connection that C code waits for is shut down, and the record has its address only.

    The call reads an end of file.
    """
    with connection() as (client, peer):
        took = answered(lambda: client.recv(1))
        assert peer.recv(1) == b""
        host, port = peer.getsockname()

    assert record(capfd)["severed"] == [f"{host}:{port}"]
    assert 1.5 < took < 1.5 + 0.375, "not between grace period and last call"


def test_child_awaited_by_c_code_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    """A child that C code waits for is ended with all its children.

    ``system()`` waits for a shell.
    """
    marker = f"60.{os.getpid()}"
    answered(lambda: os.system(f"sleep {marker}; true"))  # noqa: S605

    [name] = record(capfd)["severed"]
    assert name.startswith("process ")

    def has_ended() -> bool:
        running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        return f"sleep {marker}" not in running.stdout.replace("; true", "")

    # The shell's end is what system() waits for; the signal to its child may be still on its way.
    eventually(has_ended, "the shell's child to end")


def test_error_of_severed_call_is_lambda_timeout() -> None:
    """If the severed call raises an error, the caller gets LambdaTimeout.

    No interrupt lands, because the handler comes to no check point.
    """

    def query(client: socket.socket) -> bytes:
        if client.recv(1):
            return b"a row"
        raise ConnectionError("server closed the connection unexpectedly")

    with connection() as (client, _):
        answered(lambda: query(client))


@pytest.mark.parametrize("setting", [True, False])
def test_wait_reached_by_nudge_is_not_severed(
    setting: bool,  # noqa: FBT001
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A wait that a nudge reaches, as Python's own, is not severed."""
    with connection() as (client, peer):
        with pytest.raises(LambdaTimeout):
            watch(sever=setting)(lambda _event, _context: client.recv(1))({}, Context(1.0))
        peer.send(b"x")
        assert client.recv(1) == b"x"

    assert "severed" not in record(capfd)


def test_disabled_sever_setting_leaves_the_wait_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """With ``sever=False`` the wait ends by itself, and the interrupt lands after it."""
    with connection() as (client, peer):
        timer = threading.Timer(1.2, peer.send, [b"x"])
        timer.start()
        answered(lambda: client.recv(1), seconds=1.0, sever=False)
        timer.join()
        peer.send(b"y")
        assert client.recv(1) == b"y"

    assert "severed" not in capfd.readouterr().out


# ---- what is never severed ---------------------------------------------------------------------


def test_wait_without_named_peer_is_not_severed() -> None:
    """A wait without a named peer is left alone.

    Such are a socket pair, a pipe, a listening socket and a datagram socket.
    """
    local, peer = socket.socketpair()
    reader, writer = os.pipe()
    server = socket.create_server(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect(("127.0.0.1", 9))
    # Python waits in poll(), because the socket has a timeout.
    server.settimeout(BOUND)
    listens = Blocked(server.accept)
    pair, pipe = Blocked(lambda: local.recv(1)), Blocked(lambda: os.read(reader, 1))
    datagram = Blocked(lambda: datagrams.recv(1))

    assert pair.held() == pipe.held() == listens.held() == datagram.held() == []

    peer.send(b"x")
    os.write(writer, b"x")
    socket.create_connection(server.getsockname()).close()
    datagrams.shutdown(socket.SHUT_RDWR)
    for blocked in (pair, pipe, listens, datagram):
        blocked.join()
    listens.result[0].close()
    for end in (local, peer, server, datagrams):
        end.close()
    os.close(reader)
    os.close(writer)


def test_runtime_api_connection_is_not_severed() -> None:
    """A connection to the Runtime API's address is left alone, and one to another server is not."""
    with connection() as (client, peer):
        host, port = peer.getsockname()
        blocked = Blocked(lambda: client.recv(1))
        assert blocked.held(spared=frozenset({f"{host}:{port}"})) == []
        assert blocked.held() == [f"{host}:{port}"]
        peer.send(b"x")
        blocked.join()


def test_unix_socket_server_is_named_by_its_path(tmp_path: Path) -> None:
    """A Unix socket's server, as PostgreSQL's or MySQL's, is named by its path."""
    path = str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        peer, _ = server.accept()
        with peer:
            blocked = Blocked(lambda: client.recv(1))
            assert blocked.held() == [path]
            other = Blocked(lambda: peer.recv(1))
            assert other.held() == [], "the client has no name"
            peer.send(b"x")
            client.send(b"x")
            blocked.join()
            other.join()


def test_unresponsive_server_is_named_from_kernel_table() -> None:
    """A server that does not answer a connect is named from the kernel's table."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        client = socket.socket()
        blocked = Blocked(lambda: client.connect_ex(server.getsockname()))
        assert blocked.held() == ["{}:{}".format(*server.getsockname())]
        client.shutdown(socket.SHUT_RDWR)
        blocked.join()
        for each in (client, *filling):
            each.close()


def test_child_older_than_the_invocation_is_not_severed() -> None:
    """A child that is older than the invocation is left alone."""
    with subprocess.Popen(["sleep", "60"]) as child:
        blocked = Blocked(child.wait)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert blocked.held(since=now + 1.0) == []
        assert blocked.held(since=now - 10.0) == [f"process {child.pid} (sleep)"]
        child.kill()
        blocked.join()


def test_running_thread_has_no_wait_to_hold() -> None:
    """A thread that runs or has ended has no wait to hold."""
    assert hold(threading.get_native_id(), 5, since=0.0, spared=set()) is None
    assert hold(2**22 + 1, 5, since=0.0, spared=set()) is None


# ---- gates -------------------------------------------------------------------------------------


@contextmanager
def held() -> Iterator[tuple[Blocked, Wait, socket.socket, socket.socket]]:
    """Yield a thread in a receive, its held wait, and the connection's two ends."""
    with connection() as (client, peer):
        go_on = threading.Event()

        def call() -> bytes:
            got = client.recv(1)
            assert go_on.wait(BOUND)
            return got

        blocked = Blocked(call)
        wait = blocked.hold()
        assert wait is not None
        yield blocked, wait, client, peer
        wait.close()
        go_on.set()
        if blocked.thread.is_alive():
            try:
                peer.send(b"x")
            except OSError:
                pass
        blocked.join()


def test_repeated_wait_is_severed() -> None:
    """A wait that was repeated is severed.

    This is the control of the following tests.
    """
    with held() as (blocked, wait, _, peer):
        assert not wait.has_begun_anew(), "the call was not repeated yet"
        repeat_call(blocked)
        assert wait.has_begun_anew()
        assert wait.is_unmoved()
        assert len(wait.end()) == 1
        assert peer.recv(1) == b""


def test_call_returning_before_the_look_is_not_severed() -> None:
    """A call that returns before the look is not severed, as the thread waits elsewhere."""
    with held() as (blocked, wait, _, peer):
        turns = syscalls.turns(blocked.native_id)
        peer.send(b"x")
        eventually(lambda: syscalls.turns(blocked.native_id) != turns, "the call to return")
        eventually(
            lambda: syscalls.state_of(blocked.native_id) == "S", "the thread to wait elsewhere"
        )
        assert not wait.has_begun_anew()


def test_call_returning_between_looks_is_not_severed() -> None:
    """A call that returns between the two looks is not severed."""
    with held() as (blocked, wait, _, peer):
        repeat_call(blocked)
        assert wait.has_begun_anew()
        peer.send(b"x")
        eventually(lambda: not wait.is_unmoved(), "the return to be seen")


def test_wait_repeated_between_looks_is_not_severed() -> None:
    """A wait that is repeated between the two looks is not severed.

    It may be for the next answer on the same connection.
    """
    with held() as (blocked, wait, _, _peer):
        repeat_call(blocked)
        assert wait.has_begun_anew()
        repeat_call(blocked)
        assert not wait.is_unmoved()


def test_reused_descriptor_is_not_severed() -> None:
    """A wait is not severed if its descriptor has become another connection.

    Another thread may close the first one, whose number is then given away.
    """
    with held() as (blocked, wait, client, peer), connection() as (other, others):
        number = client.fileno()
        kept = os.dup(number)
        os.dup2(other.fileno(), number)
        repeat_call(blocked)
        assert not wait.has_begun_anew()
        # The repeated call is on the other connection, which is intact.
        turns = syscalls.turns(blocked.native_id)
        others.send(b"y")
        eventually(lambda: syscalls.turns(blocked.native_id) != turns, "the call to return")
        os.dup2(kept, number)
        os.close(kept)
    assert blocked.result == b"y"
    assert peer.fileno() < 0


def test_held_connection_is_severed_despite_reused_number() -> None:
    """The held connection is severed, even if its number is another connection's by now.

    That can happen between the last look and the cut.
    """
    with held() as (blocked, wait, client, peer), connection() as (other, others):
        repeat_call(blocked)
        assert wait.has_begun_anew()
        number = client.fileno()
        kept = os.dup(number)
        os.dup2(other.fileno(), number)
        wait.end()
        os.dup2(kept, number)
        os.close(kept)
        assert peer.recv(1) == b""
        others.send(b"y")
        assert other.recv(1) == b"y"


def test_nothing_is_severed_after_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is severed after settle, because the next invocation uses the connection.

    The state is checked under the lock.
    """
    with held() as (blocked, wait, client, peer):
        repeat_call(blocked)
        monkeypatch.setattr(severing, "hold", lambda *_args, **_named: None)
        rung = process_rung(wait, is_open=False)
        assert not rung._ends(wait)
        peer.send(b"x")
        assert client.fileno() > 0
        peer.send(b"y")
        assert client.recv(1) in {b"x", b"y"}, "the connection is intact"


def process_rung(_wait: Wait, *, is_open: bool) -> Severing:
    """Return a severing whose invocation is open, or has settled."""
    lock = threading.RLock()
    invocation = SimpleNamespace(
        is_open=is_open, plan=SimpleNamespace(settings=SimpleNamespace(sever=True))
    )
    firing = SimpleNamespace(
        invocation=invocation,
        thread_id=threading.get_ident(),
        timeline=SimpleNamespace(last_call_at=1.0),
        policy=SimpleNamespace(severed_at=set()),
        severed=[],
        lock=lock,
    )
    return Severing(firing, SimpleNamespace(unheard=9))  # type: ignore[arg-type]


def test_closed_connection_is_not_counted() -> None:
    """A connection that the other side or another thread has closed is not counted."""
    with connection() as (client, peer):
        held_one = Connection(client.fileno(), socket.socket(fileno=os.dup(client.fileno())), "x")
        assert held_one.is_still_there()
        client.close()
        peer.close()
        assert not held_one.is_still_there()
        held_one.end()
        assert not held_one.end()
        held_one.close()
