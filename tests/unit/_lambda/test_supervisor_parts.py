"""Tests of the supervisor's parts that need no second process; tests/runtime has the others."""

from __future__ import annotations

import json
import signal
import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND
from tests.unit._lambda.page import begin
from watchdog_lambda._cpython.source import SourceMap
from watchdog_lambda._cpython.stacks import stack_in
from watchdog_lambda._lambda import crash, memory, plain_http
from watchdog_lambda._lambda.crash import Place
from watchdog_lambda._lambda.decision import LONGEST_SLEEP, margin, sleep
from watchdog_lambda._lambda.fallback_file import FallbackFile
from watchdog_lambda._lambda.plain_http import Event, PlainApi, Unanswered
from watchdog_lambda._lambda.runtime_client import WatchedClient
from watchdog_lambda._lambda.runtime_process import Ended
from watchdog_lambda._lambda.shared_state import (
    ANSWERING,
    ASIDE,
    FAILED,
    IDLE,
    INIT,
    OPEN,
    STATE,
    SharedState,
)

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = "8ecd63d4-0f49-4a14-8a8d-b57c05f1e63d"
DEADLINE = 1_900_000_000.5

# ---- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "ahead"), [(30.0, 0.25), (2.0, 0.25), (1.0, 0.125)])
def test_margin_is_250_ms_and_at_most_an_eighth(seconds: float, ahead: float) -> None:
    """The margin is 0.25 s, and at most an eighth of the invocation's time.

    That is half of the grace period of a short invocation.
    """
    assert margin(seconds) == ahead


@pytest.mark.parametrize(("grace_period", "ahead"), [(3.0, 0.25), (0.2, 0.1), (0.5, 0.25)])
def test_margin_is_at_most_half_of_the_grace_period(grace_period: float, ahead: float) -> None:
    """A grace period that was chosen shorter begins before the margin, so that hooks run."""
    assert margin(30.0, grace_period) == ahead


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [(0.0, LONGEST_SLEEP), (30.0, 29.75), (0.2, 0.175), (-7.0, 0.05), (1e9, LONGEST_SLEEP)],
)
def test_invocation_beginning_during_sleep_is_seen_at_its_margin(
    seconds: float, pause: float
) -> None:
    """An invocation that begins while the supervisor sleeps is seen at its margin.

    This holds however short it is. One that came too late for a margin costs no processor time.
    """
    assert sleep(seconds) == pytest.approx(pause)


# ---- messages ----------------------------------------------------------------------------------

CODE = SourceMap(["/var/task"])
NOWHERE = Place([], CODE)
LOAD = Place([("/var/task/app.py", 24, "load"), ("/var/task/app.py", 9, "handler")], CODE)


@pytest.mark.parametrize(
    ("code", "seconds", "place", "words"),
    [
        (-signal.SIGSEGV, 1.24, LOAD, "killed by SIGSEGV after 1.2 s in app.py:24 (load)"),
        (7, 0.31, NOWHERE, "exited with status 7 after 0.3 s"),
        (
            -signal.SIGKILL,
            2.1,
            NOWHERE,
            "killed by SIGKILL after 2.1 s, memory peaked at 128 of 128 MB",
        ),
        (-signal.SIGABRT, None, LOAD, "killed by SIGABRT in its init in app.py:24 (load)"),
        (-50, -0.1, NOWHERE, "killed by signal 50 after 0.0 s"),
    ],
)
def test_crash_message_has_cause_time_and_location(
    code: int, seconds: float | None, place: Place, words: str
) -> None:
    """The message of a crash says what has ended the process, when and where.

    It also says whether memory may be the reason.
    """
    assert crash.message(Ended(code, 0), seconds, place, 128, 128) == words


def test_memory_peak_is_shown_without_a_limit() -> None:
    """If neither Lambda nor a control group gives a limit, only the memory's peak is given."""
    assert crash.memory_in_words(61, None) == "memory peaked at 61 MB"


def test_error_stack_is_outermost_first() -> None:
    """The error's stack has the outermost frame first, as in awslambdaric's own errors."""
    body = json.loads(crash.error_body("RuntimeCrash", "killed", REQUEST, LOAD.stack))

    assert body == {
        "errorType": "RuntimeCrash",
        "errorMessage": "killed",
        "requestId": REQUEST,
        "stackTrace": ["  app.py:9 (handler)\n", "  app.py:24 (load)\n"],
    }


def test_crash_is_parsed_from_faulthandler_output() -> None:
    """A crash is read from faulthandler's output as the first stack that has frames.

    The text around it is ignored.
    """
    text = (
        "Fatal Python error: Segmentation fault\n\n"
        "Stack (most recent call first):\n"
        '  File "/var/task/app.py", line 24 in load\n'
        '  File "/var/task/app.py", line 9 in handler\n\n'
        "Extension modules: _ctypes (total: 1)\n"
    )

    assert stack_in(text) == [("/var/task/app.py", 24, "load"), ("/var/task/app.py", 9, "handler")]
    assert stack_in("") == []


# ---- memory ------------------------------------------------------------------------------------


def test_lambda_memory_size_takes_precedence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lambda's memory size counts first, then the control group's limit.

    A limit above any machine's memory counts as none.
    """
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMITS", (str(limit),))
    monkeypatch.setattr(memory, "_own_groups", list)
    limit.write_text(str(256 << 20), encoding="ascii")

    assert memory.limit_mb({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}) == 128
    assert memory.limit_mb({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "much"}) == 256
    limit.write_text("9223372036854771712", encoding="ascii")
    assert memory.limit_mb({}) is None
    limit.write_text("max", encoding="ascii")
    assert memory.limit_mb({}) is None
    limit.unlink()
    assert memory.limit_mb({}) is None


def test_memory_peak_is_capped_at_the_limit() -> None:
    """The peak is never shown above the limit, which counts shared pages only once."""
    assert memory.peak_mb(140 << 10, 128) == 128
    assert memory.peak_mb(140 << 10, None) == 140


# ---- the page ----------------------------------------------------------------------------------


def test_invocation_is_read_as_stored() -> None:
    """An invocation is read as it was stored, with its identifiers, deadline and state.

    Before that nothing is read.
    """
    state = SharedState()
    assert (state.look(), state.state, state.length) == (None, INIT, 0.0)

    begin(state, f"{REQUEST} invocation-9", DEADLINE)
    seen = state.look()

    assert seen is not None
    assert (seen.state, seen.request_id, seen.invocation_id) == (OPEN, REQUEST, "invocation-9")
    assert seen.deadline == DEADLINE
    state.store(IDLE)
    assert state.length == DEADLINE - seen.opened_at
    begin(state, REQUEST, DEADLINE)
    again = state.look()
    assert again is not None
    assert again.invocation_id == ""
    assert not again.is_same(seen), "an invocation with another start is the same"


def test_supervisor_stands_aside_for_oversized_request_id() -> None:
    """If an identifier does not fit into the page, the supervisor does not act.

    A part of it could be another's. A deadline that TIMEOUT brings forward is in the page as
    well.
    """
    state = SharedState(timeout=2.0)
    begin(state, "x" * 256, DEADLINE)
    seen = state.look()
    assert seen is not None
    assert seen.request_id == "x" * 256
    assert seen.deadline == seen.opened_at + 2.0 == seen.opened_at + state.length

    begin(state, "x" * 257, DEADLINE)
    assert state.look() is None


def test_giving_up_applies_to_one_invocation() -> None:
    """Giving up applies to one invocation.

    The next one may have begun when the watchdog gives up.
    """
    state = SharedState()
    begin(state, REQUEST, DEADLINE)
    state.give_up("another", has_reported=True)
    first = state.look()
    assert first is not None
    assert not state.has_given_up(first)

    state.give_up(REQUEST, has_reported=True)
    assert state.has_given_up(first)
    assert state.has_reported(first)

    begin(state, "the next", DEADLINE)
    second = state.look()
    assert second is not None
    assert not state.has_given_up(second)
    assert not state.has_reported(second)


# ---- the fallback ------------------------------------------------------------------------------


def test_fallback_applies_to_all_or_one_invocation() -> None:
    """A fallback applies to all invocations or to one.

    Its content type and body are stored unchanged, with line breaks.
    """
    file = FallbackFile()
    assert file.read(REQUEST) is None

    file.write("", "application/json", b'{"a":\n1}')
    assert file.read(REQUEST) == ("application/json", b'{"a":\n1}')
    file.write("another", "text/plain", b"x")
    assert file.read("another") == ("text/plain", b"x")
    file.write("", "application/json", b'{"longer": "answer"}')
    file.write("", "application/json", b'{"a":\n1}')
    assert file.read(REQUEST) == ("application/json", b'{"a":\n1}'), "the fallback for all was lost"
    file.clear()
    assert file.read(REQUEST) is None
    assert file.read("another") is None


# ---- the client --------------------------------------------------------------------------------


class Request(SimpleNamespace):
    """An event as awslambdaric has it; before 4.2 it has no `invocation_id`."""


class Client:
    """awslambdaric's client, which records the page's state during its calls."""

    def __init__(self, state: SharedState) -> None:
        self.state = state
        self.seen: list[int] = []
        self.rung: list[int] = []
        self.event = Request(
            invoke_id=REQUEST, event_body=b"{}", deadline_time_in_ms=int(DEADLINE * 1000)
        )

    def wait_next_invocation(self) -> object:
        self.seen.append(self.state.state)
        return self.event

    def post_invocation_result(self, *given: object, **more: object) -> object:
        self.seen.append(self.state.state)
        return given, more

    post_invocation_error = post_init_error = post_invocation_result


class NewClient(Client):
    """The client of awslambdaric 4.2 and newer, whose method has these parameters."""

    def post_invocation_result(  # type: ignore[override]
        self,
        invoke_id: object,
        result_data: object,
        content_type: object = "text/plain",
        invocation_id: object = None,
    ) -> object:
        self.seen.append(self.state.state)
        return (invoke_id, result_data, content_type, invocation_id), {}


class OtherClient(Client):
    """A client whose method has a parameter of another name."""

    def post_invocation_result(  # type: ignore[override]
        self, invoke_id: object, result_data: object, content_type: object, number: object = 0
    ) -> object:
        self.seen.append(self.state.state)
        return (invoke_id, result_data, content_type, number), {}


@pytest.fixture(params=[Client, NewClient, OtherClient])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client whose methods announce their calls."""
    module = pytest.importorskip("awslambdaric.lambda_runtime_client")
    state = SharedState()
    base = type("Base", (request.param,), {})
    monkeypatch.setattr(module, "BaseLambdaRuntimeClient", base)
    monkeypatch.setattr(module, "InvocationRequest", Request)
    made: Any = base(state)
    WatchedClient(state, first=None, ring=lambda: made.rung.append(state.state)).install()
    return made


def test_state_follows_the_clients_calls(client: Client) -> None:
    """The page's state changes with the client's calls.

    It is idle while the event is requested, open from its arrival, and answering before the
    answer is sent.
    """
    assert client.wait_next_invocation() is client.event
    assert client.state.state == OPEN
    answer = REQUEST, b"{}", "application/json"
    last = {"number": 7} if isinstance(client, OtherClient) else {"invocation_id": "it"}
    posted: Any = client.post_invocation_result(*answer, **last)
    given = (answer, last) if type(client).__base__ is Client else ((*answer, *last.values()), {})
    assert posted == given
    client.wait_next_invocation()
    client.post_invocation_error(REQUEST, "{}", "{}")
    client.post_init_error({})

    assert client.seen == [IDLE, ANSWERING, IDLE, ANSWERING, FAILED]
    assert client.rung == [OPEN], "the first event was announced again"
    assert client.state.served_at > 0


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b'{"DurableExecutionArn": "a"}', OPEN),
        (b'{"CheckpointToken": "t", "Date": "D", "DurableExecution": 1}', OPEN),
        (b'{"DurableExecutionArn": "a", "CheckpointToken": "t"}', ASIDE),
        (b'{"CheckpointToken": "t", "Date": "D", "DurableExecutionArn": "a"}', ASIDE),
    ],
)
def test_supervisor_stands_aside_for_durable_event(client: Client, body: bytes, state: int) -> None:
    """For a durable event the supervisor does not act.

    It is recognised by both keys, as by the watchdog.
    """
    client.event.event_body = body
    client.wait_next_invocation()
    assert client.state.state == state


def test_invocation_id_is_stored_with_request_id(client: Client) -> None:
    """The invocation's identifier is stored with the request's.

    Answers are not confused where several invocations are under way.
    """
    client.event.invocation_id = "invocation-9"
    client.wait_next_invocation()
    seen = client.state.look()

    assert seen is not None
    assert (seen.request_id, seen.invocation_id) == (REQUEST, "invocation-9")
    assert seen.deadline == DEADLINE


def test_supervisor_stands_aside_without_a_deadline(client: Client) -> None:
    """If the deadline is not a number, the supervisor does not act.

    The runtime goes on as without it.
    """
    client.event.deadline_time_in_ms = None
    client.wait_next_invocation()

    assert client.state.memory[STATE] == ASIDE


# ---- HTTP --------------------------------------------------------------------------------------


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nLambda-Runtime-Deadline-Ms: 7\r\n\r\n"
    b"2;x=1\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n"
)
GARBLED = b"HTTP/1.1 202 X\r\nContent-Length: x\r\n\r\n"


class Server:
    """Accepts one connection after the other, and answers each with the given bytes."""

    def __init__(self, *answers: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._answers = answers
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._socket.accept()
            with connection:
                self.requests.append(connection.recv(65_536))
                connection.sendall(answer)

    def close(self) -> None:
        self._thread.join(5)
        self._socket.close()


def test_post_returns_status_and_body() -> None:
    """A post returns the status and the beginning of the response's body."""
    server = Server(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nbe off")
    api = PlainApi(server.address)

    assert api.post(f"invocation/{REQUEST}/error", b"{}", {"X": "1"}, 1.0) == (403, "be off")
    server.close()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(f"POST /2018-06-01/runtime/invocation/{REQUEST}/error ".encode())
    assert b"X: 1\r\n" in head + b"\r\n"
    assert b"Content-Length: 2\r\n" in head + b"\r\n"
    assert body == b"{}"


def test_status_line_needs_no_reason_and_long_body_is_cut() -> None:
    """A status line may have no reason phrase, and of a long body 200 bytes are told."""
    server = Server(b"HTTP/1.1 403\r\nContent-Length: 300\r\n\r\n" + b"x" * 300)

    answer = PlainApi(server.address).post("init/error", b"{}", {}, 1.0)
    server.close()
    assert answer == (403, "x" * 200)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 202", b"\0\1\2\r\n\r\n", b"HTTP/1.1 202 X\r\nContent-Length: x\r\n\r\n"],
)
def test_malformed_response_is_unanswered(answer: bytes) -> None:
    """A malformed response leaves open whether the answer was taken.

    So no second one may be sent.
    """
    server = Server(answer)

    with pytest.raises(Unanswered):
        PlainApi(server.address).post("init/error", b"{}", {}, 1.0)
    server.close()


def test_post_waits_longer_for_response_than_for_connection() -> None:
    """A post waits longer for its response than for the connection.

    If it gave up earlier, the request for the next event would follow it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                threading.Event().wait(0.1)
                connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain_http, "LONGEST_WAIT", 0.05)
            assert PlainApi(address).post("init/error", b"{}", {}, BOUND) == (202, "")
        thread.join()


def test_refused_connection_raises_connection_error() -> None:
    """If nobody listens the answer was certainly not taken, unlike after a malformed response."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"

    with pytest.raises(ConnectionRefusedError):
        PlainApi(address).post("init/error", b"{}", {}, 1.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nlambda-runtime-deadline-ms: 7\r\n\r\nhello",
        CHUNKED,
    ],
    ids=["whole", "chunked"],
)
def test_event_is_read_from_a_connection(answer: bytes) -> None:
    """An event is read from a connection, with headers by the native client's names."""
    server = Server(answer)
    api = PlainApi(server.address)
    connection = api.connect()
    api.ask_for_event(connection)
    event = Event(connection)

    assert event.read() == b"hello"
    assert (event.status, event.headers["Lambda-Runtime-Deadline-Ms"]) == (200, "7")
    connection.close()
    server.close()


def test_chunk_sizes_are_hexadecimal_and_trailers_optional() -> None:
    """The sizes of chunks are hexadecimal, and the answer ends without trailers."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = Server(head + b"10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n")
    connection = PlainApi(server.address).connect()
    connection.sendall(b"any request")

    assert Event(connection).read() == b"x" * 16
    connection.close()
    server.close()


def test_extension_registers_and_requests_its_event() -> None:
    """An extension is registered and requests its event.

    The request has the identifier, and is never answered.
    """
    server = Server(
        b"HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: ext-1\r\nContent-Length: 0\r\n\r\n", b""
    )
    connection = PlainApi(server.address).register_extension("watchdog-lambda", 1.0)
    server.close()

    assert b'{"events": []}' in server.requests[0]
    assert b"Lambda-Extension-Identifier: ext-1" in server.requests[1]
    connection.close()


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 500 No\r\nLambda-Extension-Identifier: ext-1"],
    ids=["no identifier", "no success"],
)
def test_extension_needs_success_and_an_identifier(head: bytes) -> None:
    """A registration without an identifier, or without success, is refused."""
    server = Server(head + b"\r\nContent-Length: 0\r\n\r\n")

    with pytest.raises(OSError, match=head.split()[1].decode()):
        PlainApi(server.address).register_extension("watchdog-lambda", 1.0)
    server.close()


def test_refused_extension_reports_the_status() -> None:
    """A refused registration returns the status, and 200 bytes of the answer, for the warning."""
    server = Server(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 300\r\n\r\n" + b"x" * 300)

    with pytest.raises(OSError, match=r"^403 x{200}$"):
        PlainApi(server.address).register_extension("watchdog-lambda", 1.0)
    server.close()
