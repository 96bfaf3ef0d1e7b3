"""One line is written to standard output, whether or not something reads it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import BOUND, FakeClock
from watchdog_lambda._config import SETTINGS
from watchdog_lambda._report import stdout
from watchdog_lambda._report.record import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[3]
LINE: Final = b"x" * (MOST_BYTES - 1) + b"\n"
CAPACITY: Final = 65_536
"""Bytes of a pipe, unless a user without privileges has too many."""
WAYS: Final = ("opened again", "spliced", "in pieces")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Select how a pipe is written to, which depends on what the system refuses."""

    def unexpected(*_: object) -> int:
        raise AssertionError("there is a better way")

    if request.param != "opened again":
        monkeypatch.setattr(stdout, "_open_again", lambda _descriptor: None)
    if request.param == "in pieces":
        monkeypatch.setattr(stdout, "_splice", stdout._put_piece)
    else:
        monkeypatch.setattr(stdout, "_put_piece", unexpected)
    if request.param == "opened again":
        monkeypatch.setattr(stdout, "_splice", unexpected)
    return str(request.param)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Return a clock that stands still, unless the code pauses."""
    clock = FakeClock()
    monkeypatch.setattr(stdout, "SystemClock", clock)
    return clock


class Poll:
    """Stands in for ``select.poll``: notes the milliseconds of each wait, and calls `meanwhile`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
        self.waits: list[float] = []
        self._meanwhile = meanwhile
        self._registered: list[tuple[int, int]] = []
        instead = SimpleNamespace(poll=lambda: self, POLLOUT=select.POLLOUT)
        monkeypatch.setattr(stdout, "select", instead)

    def register(self, descriptor: int, events: int) -> None:
        self._registered.append((descriptor, events))

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        self.waits.append(milliseconds)
        self._meanwhile()
        return self._registered


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return a pipe as a child inherits it for standard output."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass  # the test has closed it


def fill(writer: int) -> None:
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)


def seconds_until_given_up(descriptor: int) -> float:
    began = time.monotonic()
    assert not stdout._write_all(descriptor, b"line\n")
    return time.monotonic() - began


def test_longest_line_fits_into_an_empty_pipe(pipe: tuple[int, int], way: str) -> None:
    """A line of the greatest length fits into an empty pipe that has no reader.

    The pipe's flags stay as they were.
    """
    reader, writer = pipe
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    assert stdout._write_all(writer, LINE)
    assert os.read(reader, 1 << 20) == LINE
    assert fcntl.fcntl(writer, fcntl.F_GETFL) == flags
    assert len(os.listdir("/proc/self/fd")) == before, way  # noqa: PTH208


def test_full_pipe_is_given_up_after_a_bound(pipe: tuple[int, int], way: str) -> None:
    """Writing to a full pipe is given up after a bound for the whole line, not for each piece.

    Last call leaves more time than that, even if standard error is not read either.
    """
    assert SETTINGS["last_call"].default > 2 * stdout.LONGEST_WAIT
    _, writer = pipe
    fill(writer)

    seconds = seconds_until_given_up(writer)

    assert stdout.LONGEST_WAIT <= seconds < stdout.LONGEST_WAIT + 0.2, way


def test_closed_pipe_is_given_up_at_once(pipe: tuple[int, int], way: str) -> None:
    """If the pipe's reader has gone, writing is given up at once, without SIGPIPE."""
    reader, writer = pipe
    os.close(reader)

    assert seconds_until_given_up(writer) < stdout.LONGEST_WAIT, way


def test_late_reader_gets_the_whole_line(pipe: tuple[int, int], way: str) -> None:
    """A line that does not fit at first is written completely once the reader has made room."""
    reader, writer = pipe
    fill(writer)
    got = bytearray()

    def read() -> None:
        while not got.endswith(b"\n"):
            got.extend(os.read(reader, 4096))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert stdout._write_all(writer, LINE), way
    finally:
        os.write(writer, b"\n")
        thread.join(BOUND)

    assert got.lstrip(b"\0").startswith(LINE)


def test_line_stays_whole_beside_other_writers(way: str) -> None:
    """A line stays whole while several threads write to the same pipe.

    In pieces hardly any line would. If the threads keep the pipe full for 50 ms the line is
    written in pieces after all, which can happen on a busy machine.
    """
    if way == "in pieces":
        pytest.skip("lines written in pieces may be torn")
    length = 20_000 if way == "opened again" else 8_000
    child = f"""
import json, os, threading
from watchdog_lambda._report import stdout
if {way != "opened again"}: stdout._open_again = lambda descriptor: None
stdout.preload()
goes_on = True
pause = threading.Event()
def write():
    while goes_on:
        pause.wait(0.0001)
        os.write(1, b'{{"noise": "' + b"n" * 60 + b'"}}\\n')
threads = [threading.Thread(target=write) for _ in range(3)]
for thread in threads: thread.start()
for number in range(100):
    record = {{"record": number, "filler": "r" * {length}}}
    assert stdout.write(stdout.as_line(json.dumps(record)))
goes_on = False
"""
    done = subprocess.run(
        [sys.executable, "-c", child], cwd=ROOT, capture_output=True, check=True, timeout=BOUND * 3
    )

    whole, torn = [], 0
    for line in done.stdout.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            torn += 1
        else:
            if "record" in record:
                whole.append(record["record"])
    assert len(whole) >= 95
    assert torn <= 10


def test_full_socket_is_given_up_after_a_bound() -> None:
    """Writing to a socket that nobody reads is given up after a bound, and its flags stay.

    Process managers give their children socket pairs.
    """
    local, peer = socket.socketpair()
    with local, peer:
        local.set_inheritable(True)

        assert stdout._write_all(local.fileno(), b"line\n")
        assert peer.recv(100) == b"line\n"

        local.setblocking(False)
        try:
            while True:
                local.send(bytes(4096))
        except BlockingIOError:
            local.setblocking(True)
        assert seconds_until_given_up(local.fileno()) >= stdout.LONGEST_WAIT
        assert os.get_blocking(local.fileno())

        peer.close()
        assert seconds_until_given_up(local.fileno()) < stdout.LONGEST_WAIT


def test_full_terminal_is_given_up() -> None:
    """Writing to a full pseudo-terminal is given up, because a write would block halfway."""
    other, terminal = os.openpty()
    os.set_inheritable(terminal, True)
    try:
        assert stdout._write_all(terminal, b"line\n")
        assert os.read(other, 100) == b"line\r\n"

        began = time.monotonic()
        assert not stdout._write_all(terminal, bytes(1 << 20))
        assert time.monotonic() - began < BOUND
        assert os.get_blocking(terminal)
    finally:
        os.close(terminal)
        os.close(other)


def test_signal_during_write_changes_nothing(pipe: tuple[int, int]) -> None:
    """A signal during the wait for room (EINTR) changes nothing, and the user's handler runs."""
    script = f"""
import os, signal, sys, threading
from watchdog_lambda._report import stdout
ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
written = stdout.write({LINE!r}) and stdout.write({LINE!r})
signal.setitimer(signal.ITIMER_REAL, 0)
sys.stderr.write(f"{{written}} {{bool(ticks)}}")
"""
    reader, writer = pipe
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    ) as child:
        os.close(writer)
        # The second line has no room, and waits until the pipe is read here.
        first = os.read(reader, 1)
        threading.Event().wait(0.03)
        text = bytearray(first)
        while piece := os.read(reader, 1 << 16):
            text += piece
        assert child.stderr is not None
        said = child.stderr.read()

    assert bytes(text) == 2 * LINE
    assert said == b"True True"


def child_writes(setup: str, tmp_path: Path) -> tuple[str, str, str]:
    """Return what standard output, standard error and the user's file have got after `setup`."""
    script = f"""
import os, socket
kept = os.dup(1)
{setup}
from watchdog_lambda._report import stdout
stdout.write(b"line\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=BOUND * 3,
    )
    file = tmp_path / "data.csv"
    return done.stdout, done.stderr, file.read_text() if file.exists() else ""


def test_user_file_on_descriptor_1_is_not_written_to(tmp_path: Path) -> None:
    """A user's file that got descriptor 1 after standard output was closed does not get the line.

    Standard error gets it.
    """
    out, err, data = child_writes("os.close(1); file = open('data.csv', 'w')", tmp_path)

    assert (out, err, data) == ("", "line\n", "")


def test_user_socket_on_descriptor_1_is_not_written_to(tmp_path: Path) -> None:
    """A user's connection that got descriptor 1 does not get the line."""
    out, err, _ = child_writes(
        "os.close(1); a, b = socket.socketpair(); assert 1 in (a.fileno(), b.fileno())", tmp_path
    )

    assert (out, err) == ("", "line\n")


def test_redirected_standard_output_gets_the_line(tmp_path: Path) -> None:
    """Standard output that was redirected by ``os.dup2`` gets the line.

    Shells and pytest redirect it in this way.
    """
    setup = "file = open('data.csv', 'w'); os.dup2(file.fileno(), 1)"
    out, err, data = child_writes(setup, tmp_path)

    assert (out, err, data) == ("", "", "line\n")


def test_both_streams_closed_is_no_error(tmp_path: Path) -> None:
    """If both streams are closed nothing is written, and the process goes on."""
    assert child_writes("os.close(1); os.close(2)", tmp_path) == ("", "", "")


@pytest.mark.untraced
def test_pipe_that_cannot_be_reopened_is_spliced_into(pipe: tuple[int, int]) -> None:
    """A pipe that cannot be opened again is spliced into.

    Another user has made it, as on Lambda: opening it is refused, and writing is not.
    """
    if os.getuid() != 0:
        pytest.skip("needs root to hand a pipe to another user")
    script = f"""
import os, sys
from watchdog_lambda._report import stdout
spliced = []
splice = stdout._splice
stdout._splice = lambda *given: spliced.append(1) or splice(*given)
os.setresuid(65534, 65534, 65534)
assert stdout.write({LINE!r})
sys.stderr.write(str(spliced))
"""
    reader, writer = pipe
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    ) as child:
        os.close(writer)
        text = bytearray()
        while piece := os.read(reader, 1 << 16):
            text += piece
        assert child.stderr is not None
        assert child.stderr.read() == b"[1]"

    assert bytes(text) == LINE


# ---- which descriptor, and when ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "tried"), [({1, 2}, [1]), ({1}, [1]), ({2}, [1, 2]), (set(), [1, 2])]
)
def test_line_goes_to_standard_error_if_standard_output_refuses_it(
    accept: set[int], tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line goes to standard output, or else to standard error."""
    seen: list[int] = []

    def write_all(descriptor: int, _line: bytes) -> bool:
        seen.append(descriptor)
        return descriptor in accept

    monkeypatch.setattr(stdout, "_write_all", write_all)

    assert stdout.write(b"line\n") is bool(accept)
    assert seen == tried


def test_descriptor_opened_by_python_or_closed_gets_no_line(pipe: tuple[int, int]) -> None:
    """A descriptor that Python has opened, or that is closed, gets no line."""
    reader, writer = pipe
    os.set_inheritable(writer, False)
    assert stdout._write_all(writer, b"line\n") is False

    os.close(writer)
    assert os.read(reader, 100) == b""
    assert stdout._write_all(writer, b"line\n") is False


def test_memory_error_does_not_leave_the_writer(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A MemoryError does not leave the writer."""

    def fail(_descriptor: int) -> int:
        raise MemoryError

    monkeypatch.setattr(stdout, "_open_again", fail)

    assert stdout._write_all(pipe[1], b"line\n") is False


def test_line_waits_for_room_half_of_the_time(pipe: tuple[int, int], fake: FakeClock) -> None:
    """If others keep a pipe nearly full the line is written after half of the time."""
    reader, writer = pipe
    began = fake.now
    queued = CAPACITY - 5_500
    assert os.write(writer, bytes(queued)) == queued
    line = b"x" * 5_000

    assert stdout._write_all(writer, line)

    assert fake.now - began == pytest.approx(stdout.LONGEST_WAIT / 2, abs=2 * stdout._PAUSE)
    assert os.read(reader, CAPACITY)[queued:] == line


@pytest.mark.parametrize(
    ("queued", "size", "fits"),
    [
        (0, CAPACITY * 2, True),
        (1, CAPACITY - 4_097, True),
        (1, CAPACITY - 4_096, False),
        (10_000, CAPACITY - 14_096, True),
        (10_000, CAPACITY - 14_095, False),
    ],
)
def test_wait_for_room_ends_when_the_line_fits(
    queued: int,
    size: int,
    pipe: tuple[int, int],
    fake: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    fits: bool,
) -> None:
    """Room for a line is there if the pipe is empty, or if it fits beside a page that is in use.

    After a pause the pipe is polled, and looked at again.
    """
    reader, writer = pipe
    os.write(writer, bytes(queued))
    poll = Poll(monkeypatch, lambda: os.read(reader, CAPACITY))
    began = fake.now

    stdout._wait_for_room(writer, size, began + 0.05)

    assert fake.now == (began if fits else began + stdout._PAUSE)
    assert poll.waits == ([] if fits else [(began + 0.05 - fake.now) * 1000])
    assert poll._registered == [(writer, select.POLLOUT)]


def test_wait_for_room_ends_with_its_time(
    pipe: tuple[int, int], fake: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for room ends with its time, with one poll at most after that."""
    _, writer = pipe
    fill(writer)
    poll = Poll(monkeypatch, lambda: fake.advance(1.0))

    stdout._wait_for_room(writer, 5, fake.now + stdout._PAUSE)
    assert poll.waits == []

    stdout._wait_for_room(writer, 5, fake.now + 0.5)
    assert len(poll.waits) == 1


def test_push_polls_until_its_time_ends_and_once_after(
    pipe: tuple[int, int], fake: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line waits for its reader until the end of its time, and is tried once after it."""
    poll = Poll(monkeypatch, lambda: fake.advance(0.25))

    assert stdout._push(pipe[1], lambda _descriptor, _rest: 1, b"abc", fake.now + 0.375)

    assert poll.waits == [375.0, 125.0, 0.0]


# ---- what the system refuses -------------------------------------------------------------------


def test_line_is_written_without_fcntl(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fcntl the line is written without waiting for room.

    How full the pipe is cannot be read.
    """
    monkeypatch.setitem(sys.modules, "fcntl", None)

    stdout.preload()

    assert stdout._write_all(pipe[1], LINE)
    assert os.read(pipe[0], 1 << 20) == LINE


@pytest.mark.parametrize("error", [OSError(errno.ENOSYS, "no"), AttributeError("memfd_create")])
def test_line_is_written_in_pieces_without_splice_file(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Without a file to splice from, the line is written in pieces.

    The pipe cannot be opened again here.
    """

    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(os, "open", refuse if isinstance(error, OSError) else lambda *_: None)

    assert stdout._write_all(pipe[1], LINE)
    assert os.read(pipe[0], 1 << 20) == LINE


def test_contended_pipe_is_given_up_after_several_attempts(
    pipe: tuple[int, int], fake: FakeClock
) -> None:
    """A pipe to which others are always faster is given up, but not at the first attempt.

    It is ready each time, and full when it is written to.
    """
    tries: list[int] = []

    def put(_descriptor: int, rest: memoryview) -> int:
        tries.append(len(rest))
        if len(tries) == 3 and is_lucky:
            return len(rest)
        fake.advance(1.0)
        raise BlockingIOError

    is_lucky = True
    assert stdout._push(pipe[1], put, b"line\n", fake.now + 3.0)
    assert tries == [5, 5, 5]

    is_lucky = False
    assert not stdout._push(pipe[1], put, b"line\n", fake.now + 1.0)
    assert len(tries) == 4


def test_line_breaks_and_surrogates_are_escaped() -> None:
    """Line breaks and surrogates are escaped.

    No second line can be forged, and everything can be encoded.
    """
    assert stdout.as_line("a\nb\r\n\udcff") == b"a\\nb\\r\\n\\udcff\n"


def test_line_ends_and_eight_bit_controls_are_escaped_and_nothing_else() -> None:
    """What some reader takes for the end of a line is escaped, and a terminal's eight-bit controls.

    Nothing else is, and in JSON the escapes mean the same.
    """
    for number in range(0x3000):
        character = chr(number)
        line = stdout.as_line(character).decode()
        ends_a_line = len(f"a{character}b".splitlines()) > 1
        assert (line != f"{character}\n") is (ends_a_line or 0x7F <= number < 0xA0), hex(number)
        if line != f"{character}\n":
            assert json.loads(f'"{line[:-1]}"') == character
