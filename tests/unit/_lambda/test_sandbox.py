"""Tests of the parts of SIGTERM=1; tests/runtime has it in a real process."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import types
from _thread import allocate_lock, start_new_thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, in_a_fork
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._lambda import sandbox as _sandbox
from watchdog_lambda._lambda.sandbox import BUDGET, Sandbox, _Handler, announced_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


class Ended(BaseException):
    """Raised where the process would have ended with this status."""


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Return a sandbox that ends no process, and listens to nothing yet."""

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)
    made = Sandbox(SystemClock())
    yield made
    os.close(made._read_end)
    os.close(made._write_end)


@pytest.fixture
def hook() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Register a hook for one test."""
    keys: list[int] = []
    yield lambda function: keys.append(_sandbox.hooks.add("hook", lambda _details: function()))
    for key in keys:
        _sandbox.hooks.remove(key)


@pytest.fixture
def sigterm() -> Iterator[Callable[[Any], object]]:
    """Set the process's handler of SIGTERM for one test."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda handler: signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGTERM, before)


# ---- registering -------------------------------------------------------------------------------


class Lambda:
    """Accepts or refuses the extension."""

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.names: list[str] = []

    def register_extension(self, name: str, _seconds: float) -> object:
        self.names.append(name)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def test_extension_connection_is_kept_open() -> None:
    """The connection on which no event is requested is kept open.

    Lambda would take a closed one for the extension's end.
    """
    connection = object()
    api: Any = Lambda(connection)

    assert announced_by(api) is connection
    assert api.names == ["watchdog-lambda"]


def test_refused_registration_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    """A refused registration is warned of, and the function starts all the same."""
    api: Any = Lambda(OSError("403 no"))

    assert announced_by(api) is None
    assert "no extension could be registered (403 no)" in caplog.text


# ---- listening ---------------------------------------------------------------------------------


def in_a_child(scene: Callable[[], object]) -> Any:
    """Return the result of a scene in a child process, which has signals of its own."""
    return json.loads(in_a_fork(lambda: json.dumps(scene()).encode()))


@pytest.mark.parametrize("is_taken", [False, True])
def test_wakeup_fd_is_set_only_if_unused(is_taken: bool) -> None:  # noqa: FBT001
    """The wake-up descriptor is taken only if it is free, because a loop may use it.

    The signal handler is installed in any case.
    """

    def scene() -> list[bool]:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        made = Sandbox(SystemClock())
        foreign_fd = os.dup(made._write_end) if is_taken else -1
        os.set_blocking(made._write_end, False)
        signal.set_wakeup_fd(foreign_fd)
        made.listen()
        expected = foreign_fd if is_taken else made._write_end
        return [
            signal.set_wakeup_fd(-1) == expected,
            signal.getsignal(signal.SIGTERM) == made._on_sigterm,
        ]

    assert in_a_child(scene) == [True, True]


def test_sigterm_ends_the_process_with_success() -> None:
    """SIGTERM ends a listening process with status 0, while its main thread waits."""

    def scene() -> int:
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            Sandbox(SystemClock()).listen()
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(BOUND)
            os._exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_a_child(scene) == 0


def test_signal_for_a_full_pipe_is_not_complained_about() -> None:
    """Python writes no warning if the pipe is full of signals when another one arrives."""

    def scene() -> list[str]:
        seen: list[str] = []
        sys.unraisablehook = lambda given: seen.append(str(given.exc_value))
        signal.signal(signal.SIGUSR1, lambda *_given: None)
        made = Sandbox(SystemClock())
        made._run = lambda: None  # type: ignore[method-assign] # so that nobody reads
        made.listen()
        try:
            while True:
                os.write(made._write_end, bytes(4096))
        except BlockingIOError:
            os.kill(os.getpid(), signal.SIGUSR1)
        return seen

    assert in_a_child(scene) == []


def test_user_sigterm_handler_is_kept() -> None:
    """A user's SIGTERM handler is kept, and ours is installed only if there is none."""

    def scene() -> bool:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Sandbox(SystemClock()).listen()
        return signal.getsignal(signal.SIGTERM) is signal.SIG_IGN

    assert in_a_child(scene)


def test_forked_child_ends_by_sigterm() -> None:
    """A forked child is ended by SIGTERM like any process.

    Its signals do not reach the parent's thread.
    """

    def scene() -> list[bool]:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        Sandbox(SystemClock()).listen()
        child = in_a_child(
            lambda: [
                signal.set_wakeup_fd(-1) == -1,
                signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            ]
        )
        return [*child, signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL]

    assert in_a_child(scene) == [True, True, True]


def test_foreign_signal_settings_are_kept_in_child(
    sandbox: Sandbox, sigterm: Callable[[Any], object]
) -> None:
    """A descriptor or signal handler of another library is left unchanged in a child."""
    sigterm(signal.SIG_IGN)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        sandbox._after_fork()
        left = signal.set_wakeup_fd(before)
    finally:
        os.close(reader)
        os.close(writer)

    assert left == writer
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_fork_off_the_main_thread_is_no_error(sandbox: Sandbox) -> None:
    """A fork off the main thread is no error.

    Signals cannot be set there, as in a sub-interpreter.
    """
    failed: list[BaseException] = []

    def fork() -> None:
        try:
            sandbox._after_fork()
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=fork)
    worker.start()
    worker.join(BOUND)

    assert failed == []


def test_full_signal_pipe_is_no_error(sandbox: Sandbox) -> None:
    """A pipe that is full of signals is no error, because the thread is about to read them."""
    sandbox._on_sigterm(signal.SIGTERM, None)
    assert os.read(sandbox._read_end, 512) == bytes((signal.SIGTERM,))

    try:
        while True:
            os.write(sandbox._write_end, bytes(4096))
    except BlockingIOError:
        sandbox._on_sigterm(signal.SIGTERM, None)


# ---- the end -----------------------------------------------------------------------------------


def announce(sandbox: Sandbox, number: int = signal.SIGTERM) -> None:
    os.write(sandbox._write_end, bytes((number,)))


def test_hooks_run_in_reverse_order_and_process_exits(
    sandbox: Sandbox,
    hook: Callable[[Callable[[], object]], None],
    sigterm: Callable[[Any], object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At SIGTERM the hooks run in reverse order of registration, and the process ends.

    Another signal that Python handles does nothing. One line has the outcomes.
    """
    order: list[int] = []
    hook(lambda: order.append(1))
    hook(lambda: order.append(2))
    sigterm(sandbox._on_sigterm)
    announce(sandbox, signal.SIGURG)
    threading.Timer(0.02, announce, (sandbox,)).start()

    with pytest.raises(Ended) as ended:
        sandbox._run()

    assert ended.value.args == (0,)
    assert order == [2, 1]
    record = json.loads(capfd.readouterr().out)
    assert record["event"] == "watchdog.sandbox_shutdown"
    assert [run["outcome"] for run in record["hooks"]] == ["ok", "ok"]


def test_hanging_hook_gets_only_the_budget(
    sandbox: Sandbox,
    hook: Callable[[Callable[[], object]], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A hook that hangs gets the budget and no more.

    Lambda kills 500 ms after SIGTERM, and the line must be written before.
    """
    release = threading.Event()
    hook(lambda: release.wait(BOUND))
    assert BUDGET < 0.5
    began = SystemClock.monotonic()
    try:
        sandbox._run_hooks()
    finally:
        release.set()

    assert BUDGET <= SystemClock.monotonic() - began < BUDGET + 0.4
    [run] = json.loads(capfd.readouterr().out)["hooks"]
    assert run["outcome"] == "timed-out"


def test_nothing_is_written_without_hooks(
    sandbox: Sandbox, sigterm: Callable[[Any], object], capfd: pytest.CaptureFixture[str]
) -> None:
    """Without hooks nothing is written, and a SIGTERM that the user has ignored ends nothing."""
    sigterm(signal.SIG_IGN)
    announce(sandbox)

    sandbox._run()

    assert capfd.readouterr() == ("", "")


def waiting_for_the_next_invocation(sandbox: Sandbox) -> None:
    """Let the main thread seem to wait in a call in which no Python signal handler can run."""
    sandbox._main_waits_in_c = lambda: True  # type: ignore[method-assign]


def test_user_handler_is_called_for_waiting_main_thread(
    sandbox: Sandbox, sigterm: Callable[[Any], object]
) -> None:
    """The user's handler is called for a main thread that waits.

    Its exit status is the process's.
    """
    given: list[object] = []

    def exits(number: int, frame: FrameType | None) -> None:
        given.extend((number, frame))
        raise SystemExit(3)

    sigterm(exits)
    waiting_for_the_next_invocation(sandbox)
    announce(sandbox)

    with pytest.raises(Ended) as ended:
        sandbox._run()

    assert given == [signal.SIGTERM, None]
    assert ended.value.args == (3,)


def test_user_handler_is_left_to_a_main_thread_that_runs(
    sandbox: Sandbox, sigterm: Callable[[Any], object]
) -> None:
    """The user's handler is not called on our thread if the main thread can run it itself."""
    called: list[int] = []
    sigterm(lambda number, _frame: called.append(number))
    announce(sandbox)

    sandbox._run()

    assert called == []


def test_main_thread_waits_in_c_in_runtime_client(sandbox: Sandbox) -> None:
    """The main thread waits in C if its innermost Python function is named like the client's."""
    waits: list[bool] = []
    looked = allocate_lock()

    def look() -> None:
        waits.append(sandbox._main_waits_in_c())
        looked.release()

    def wait_next_invocation() -> None:
        looked.acquire()
        start_new_thread(look, ())
        looked.acquire(True, BOUND)
        looked.release()

    wait_next_invocation()
    wait_elsewhere = types.FunctionType(
        wait_next_invocation.__code__.replace(co_name="wait"),
        globals(),
        closure=wait_next_invocation.__closure__,
    )
    wait_elsewhere()

    assert waits == [True, False]


@pytest.mark.parametrize(
    ("code", "status"), [(3, 3), (None, 0), ("a message", 1), (True, 1)], ids=repr
)
def test_exit_codes_match_the_interpreter(code: Any, status: int) -> None:
    """Exit codes are the interpreter's.

    None is success, and a value that is no number is a failure.
    """

    def exits(_number: int, _frame: object) -> None:
        raise SystemExit(code)

    handler = _Handler(exits)
    handler.start()

    assert handler.exit_code() == status


def test_failing_handler_is_logged_and_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A handler that raises is logged and ends nothing, as on the main thread."""

    def fails(_number: int, _frame: object) -> None:
        raise KeyError("own")

    handler = _Handler(fails)
    handler.start()

    assert handler.exit_code() is None
    assert json.loads(capfd.readouterr().out)["error"] == "KeyError"


@pytest.mark.parametrize("default", [signal.SIG_IGN, signal.SIG_DFL, None])
def test_uncallable_handler_is_not_called(default: Any) -> None:
    """A signal handler that cannot be called is not called, and nothing waits for it.

    The signal is ignored, or its handler was set by C code.
    """
    handler = _Handler(default)
    handler.start()

    assert handler.exit_code() is None
