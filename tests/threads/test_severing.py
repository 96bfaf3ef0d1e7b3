"""Ending what a blocked C call waits for: what is cut, what never is, and the gates in between.

The C code that repeats its system call after a signal is the kernel's here: with ``SA_RESTART`` it
begins a call anew by itself, and Python does not come to look.
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
    """Have the kernel begin a call anew that the nudge has broken off, as libpq does."""
    watch(lambda _event, _context: None)({}, Context(60.0))  # the nudge is installed by then
    number = process_watchdog.nudge.number
    assert number is not None
    signal.siginterrupt(number, False)
    try:
        yield
    finally:
        signal.siginterrupt(number, True)


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with client, theirs:
        yield client, theirs


class Blocked:
    """A thread that makes a blocking call, until the test ends it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.native_id = 0
        self.result: Any = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        eventually(lambda: syscalls.blocked_in(self.native_id), "the thread is blocked")

    def _run(self) -> None:
        self.native_id = threading.get_native_id()
        try:
            self.result = self._call()
        except ConnectionError as error:  # what was cut can be reset
            self.result = error

    def hold(self, *, since: float = 0.0, spared: frozenset[str] = frozenset()) -> Wait | None:
        return hold(self.native_id, 5, since=since, spared=set(spared))

    def held(self, **given: Any) -> list[str]:
        """The names of what may be ended."""
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


def begin_anew(blocked: Blocked) -> None:
    """Break its call off and have it begin again, as a nudge does: by stopping the process."""
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
    eventually(lambda: syscalls.turns(blocked.native_id) != turns, "it has been back")
    eventually(lambda: syscalls.blocked_in(blocked.native_id), "it is blocked again")


# ---- the whole way -----------------------------------------------------------------------------


def answered(handler: Callable[[], object], seconds: float = 2.0, **options: Any) -> float:
    """Seconds until a handler in C was out, which must be with a LambdaTimeout."""
    began = time.monotonic()
    with repeated_calls(), pytest.raises(LambdaTimeout, match="interrupted after"):
        watch(**options)(lambda _event, _context: handler())({}, Context(seconds))
    return time.monotonic() - began


def record(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    [line] = [line for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    told: dict[str, Any] = json.loads(line)
    return told


def test_a_connection_that_c_code_waits_for_is_shut_down(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The call reads an end of file; the record names the other side, and no content."""
    with connection() as (client, theirs):
        took = answered(lambda: client.recv(1))
        assert theirs.recv(1) == b""
        host, port = theirs.getsockname()

    assert record(capfd)["severed"] == [f"{host}:{port}"]
    assert 1.5 < took < 1.5 + 0.375, "behind the grace period's begin, before last call"


def test_a_child_that_c_code_waits_for_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    """With all that it has started: ``system()`` waits for a shell."""
    marker = f"60.{os.getpid()}"
    answered(lambda: os.system(f"sleep {marker}; true"))  # noqa: S605

    [name] = record(capfd)["severed"]
    assert name.startswith("process ")
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert f"sleep {marker}" not in running.stdout.replace("; true", "")


def test_an_error_that_the_cut_call_raises_is_this_timeout() -> None:
    """It never gets to a check point, so no interrupt lands; the caller learns all the same."""

    def query(client: socket.socket) -> bytes:
        if client.recv(1):
            return b"a row"
        raise ConnectionError("server closed the connection unexpectedly")

    with connection() as (client, _):
        answered(lambda: query(client))


@pytest.mark.parametrize("setting", [True, False])
def test_what_a_nudge_reaches_is_never_cut(
    setting: bool,  # noqa: FBT001
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A call of Python's own."""
    with connection() as (client, theirs):
        with pytest.raises(LambdaTimeout):
            watch(sever=setting)(lambda _event, _context: client.recv(1))({}, Context(1.0))
        theirs.send(b"x")
        assert client.recv(1) == b"x"

    assert "severed" not in record(capfd)


def test_nothing_is_cut_where_the_setting_is_off(capfd: pytest.CaptureFixture[str]) -> None:
    """The call ends by itself, and the interrupt lands after it."""
    with connection() as (client, theirs):
        timer = threading.Timer(1.2, theirs.send, [b"x"])
        timer.start()
        answered(lambda: client.recv(1), seconds=1.0, sever=False)
        timer.join()
        theirs.send(b"y")
        assert client.recv(1) == b"y"

    assert "severed" not in capfd.readouterr().out


# ---- what is never cut -------------------------------------------------------------------------


def test_what_has_no_other_side_with_a_name_is_left_alone() -> None:
    """A pair of sockets, a pipe, a listening socket, and one of datagrams."""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    server = socket.create_server(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect(("127.0.0.1", 9))
    # Python waits in poll(), because the socket has a timeout.
    server.settimeout(BOUND)
    listens = Blocked(server.accept)
    pair, pipe = Blocked(lambda: ours.recv(1)), Blocked(lambda: os.read(reader, 1))
    datagram = Blocked(lambda: datagrams.recv(1))

    assert pair.held() == pipe.held() == listens.held() == datagram.held() == []

    theirs.send(b"x")
    os.write(writer, b"x")
    socket.create_connection(server.getsockname()).close()
    datagrams.shutdown(socket.SHUT_RDWR)
    for blocked in (pair, pipe, listens, datagram):
        blocked.join()
    listens.result[0].close()
    for end in (ours, theirs, server, datagrams):
        end.close()
    os.close(reader)
    os.close(writer)


def test_what_leads_to_the_runtime_api_is_left_alone() -> None:
    """By its address; another server's is not."""
    with connection() as (client, theirs):
        host, port = theirs.getsockname()
        blocked = Blocked(lambda: client.recv(1))
        assert blocked.held(spared=frozenset({f"{host}:{port}"})) == []
        assert blocked.held() == [f"{host}:{port}"]
        theirs.send(b"x")
        blocked.join()


def test_a_server_is_named_by_its_path(tmp_path: Path) -> None:
    """PostgreSQL's and MySQL's, on the same machine; IPv6's in brackets."""
    path = str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        theirs, _ = server.accept()
        with theirs:
            blocked = Blocked(lambda: client.recv(1))
            assert blocked.held() == [path]
            other = Blocked(lambda: theirs.recv(1))
            assert other.held() == [], "the client has no name"
            theirs.send(b"x")
            client.send(b"x")
            blocked.join()
            other.join()


def test_a_server_that_does_not_answer_is_named() -> None:
    """A connection that is being made has no other side yet, but in the kernel's table."""
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


def test_a_child_of_before_the_invocation_is_left_alone() -> None:
    """The image's own, or another invocation's."""
    with subprocess.Popen(["sleep", "60"]) as child:
        blocked = Blocked(child.wait)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert blocked.held(since=now + 1.0) == []
        assert blocked.held(since=now - 10.0) == [f"process {child.pid} (sleep)"]
        child.kill()
        blocked.join()


def test_a_thread_that_runs_waits_for_nothing() -> None:
    """Nor does one that has ended."""
    assert hold(threading.get_native_id(), 5, since=0.0, spared=set()) is None
    assert hold(2**22 + 1, 5, since=0.0, spared=set()) is None


# ---- gates -------------------------------------------------------------------------------------


@contextmanager
def held() -> Iterator[tuple[Blocked, Wait, socket.socket, socket.socket]]:
    """A thread in a receive, its wait, which is held, and the connection's two ends."""
    with connection() as (client, theirs):
        go_on = threading.Event()

        def call() -> bytes:
            got = client.recv(1)
            assert go_on.wait(BOUND)
            return got

        blocked = Blocked(call)
        wait = blocked.hold()
        assert wait is not None
        yield blocked, wait, client, theirs
        wait.close()
        go_on.set()
        if blocked.thread.is_alive():
            try:
                theirs.send(b"x")
            except OSError:
                pass
        blocked.join()


def test_a_wait_that_has_begun_anew_is_ended() -> None:
    """What all the others differ from."""
    with held() as (blocked, wait, _, theirs):
        assert not wait.has_begun_anew(), "it has not been back"
        begin_anew(blocked)
        assert wait.has_begun_anew()
        assert wait.is_unmoved()
        assert len(wait.end()) == 1
        assert theirs.recv(1) == b""


def test_a_call_that_comes_back_before_the_look_is_not_cut() -> None:
    """It is in another call by then, or on the same one for other data."""
    with held() as (blocked, wait, _, theirs):
        turns = syscalls.turns(blocked.native_id)
        theirs.send(b"x")
        eventually(lambda: syscalls.turns(blocked.native_id) != turns, "it has come back")
        eventually(lambda: syscalls.state_of(blocked.native_id) == "S", "it waits elsewhere")
        assert not wait.has_begun_anew()


def test_a_call_that_comes_back_between_the_looks_is_not_cut() -> None:
    """The last one is in front of the cut itself."""
    with held() as (blocked, wait, _, theirs):
        begin_anew(blocked)
        assert wait.has_begun_anew()
        theirs.send(b"x")
        eventually(lambda: not wait.is_unmoved(), "it is seen to have come back")


def test_a_wait_that_has_begun_anew_between_the_looks_is_not_cut() -> None:
    """The same call on the same connection, but the thread has run: for the next answer, maybe."""
    with held() as (blocked, wait, _, _theirs):
        begin_anew(blocked)
        assert wait.has_begun_anew()
        begin_anew(blocked)
        assert not wait.is_unmoved()


def test_a_descriptor_that_is_another_one_by_now_is_not_cut() -> None:
    """Closed by another thread, and its number given to another connection."""
    with held() as (blocked, wait, client, theirs), connection() as (other, others):
        number = client.fileno()
        kept = os.dup(number)
        os.dup2(other.fileno(), number)
        begin_anew(blocked)
        assert not wait.has_begun_anew()
        # The call that was begun anew is on the other one, which is whole.
        turns = syscalls.turns(blocked.native_id)
        others.send(b"y")
        eventually(lambda: syscalls.turns(blocked.native_id) != turns, "it has come back")
        os.dup2(kept, number)
        os.close(kept)
    assert blocked.result == b"y"
    assert theirs.fileno() < 0


def test_what_is_cut_is_what_was_held_whatever_its_number_is() -> None:
    """Between the last look and the cut, where nothing can be looked at any more."""
    with held() as (blocked, wait, client, theirs), connection() as (other, others):
        begin_anew(blocked)
        assert wait.has_begun_anew()
        number = client.fileno()
        kept = os.dup(number)
        os.dup2(other.fileno(), number)
        wait.end()
        os.dup2(kept, number)
        os.close(kept)
        assert theirs.recv(1) == b""
        others.send(b"y")
        assert other.recv(1) == b"y"


def test_nothing_is_severed_once_the_handler_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next invocation must find its connection: what decides is looked at under the lock."""
    with held() as (blocked, wait, client, theirs):
        begin_anew(blocked)
        monkeypatch.setattr(severing, "hold", lambda *_args, **_named: None)
        rung = process_rung(wait, is_open=False)
        assert not rung._ends(wait)
        theirs.send(b"x")
        assert client.fileno() > 0
        theirs.send(b"y")
        assert client.recv(1) in {b"x", b"y"}, "it is whole"


def process_rung(_wait: Wait, *, is_open: bool) -> Severing:
    """A rung whose invocation is open, or has settled."""
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


def test_a_connection_that_is_gone_is_not_counted() -> None:
    """The other side, or another thread, has been faster."""
    with connection() as (client, theirs):
        held_one = Connection(client.fileno(), socket.socket(fileno=os.dup(client.fileno())), "x")
        assert held_one.is_still_there()
        client.close()
        theirs.close()
        assert not held_one.is_still_there()
        held_one.end()
        assert not held_one.end()
        held_one.close()
