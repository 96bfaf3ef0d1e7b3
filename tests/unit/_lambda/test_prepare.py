"""Tests of the process's preparation by the settings, which must never fail its start."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import FakeClock
from watchdog_lambda._config import Settings
from watchdog_lambda._engine import aftermath
from watchdog_lambda._lambda import process, sandbox, startup, supervise
from watchdog_lambda._lambda.process import PAST
from watchdog_lambda._plan import Plan
from watchdog_lambda.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

LAMBDA = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}


class Sandbox:
    """Records the calls, or refuses to be set up."""

    made: list[Sandbox]
    error: Exception | None

    def __init__(self, _clock: object) -> None:
        self.made.append(self)

    def listen(self) -> None:
        if self.error is not None:
            raise self.error


class Extension:
    """Stands for the registration of an extension, which may be refused, and for its connection."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_open = True
        self.is_taken = True

    def __call__(self, _api: object) -> Extension | None:
        self.asked += 1
        return self if self.is_taken else None

    def close(self) -> None:
        self.is_open = False


@pytest.fixture(autouse=True)
def extension(monkeypatch: pytest.MonkeyPatch) -> Extension:
    """Return what Lambda has received of the extension."""
    extension = Extension()
    monkeypatch.setattr(sandbox, "announced_by", extension)
    monkeypatch.setattr(startup, "_registered", [])
    return extension


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the watchdog of a process in which nothing has been prepared."""
    monkeypatch.setattr(startup, "_done", set())
    monkeypatch.setattr(startup, "_past", {})
    monkeypatch.setattr(startup, "_starts", [])
    monkeypatch.setattr(aftermath, "renewal", None)
    made: list[str | int | None] = []
    thread = SimpleNamespace(
        clock=FakeClock(), last_resort=None, preload=lambda: None, made=made, get_ready=made.append
    )
    monkeypatch.setattr(startup, "process_watchdog", thread)
    monkeypatch.setattr(sandbox, "Sandbox", Sandbox)
    Sandbox.made, Sandbox.error = [], None
    return thread


def end_init(environ: dict[str, str], fallback: object = None, **settings: str) -> None:
    given = {f"WATCHDOG_LAMBDA_{name.upper()}": value for name, value in settings.items()}
    own = Settings.from_environ(given)
    startup.end_init(own, environ, Plan(own, (), fallback, {}))


def prepare(environ: dict[str, str] | None = None, **settings: Any) -> None:
    given = {f"WATCHDOG_LAMBDA_{name.upper()}": value for name, value in settings.items()}
    startup.prepare(Settings.from_environ(given), {**LAMBDA, **(environ or {})})


def test_sigterm_listener_and_extension_are_set_up_once(extension: Extension) -> None:
    """SIGTERM is listened for and the extension registered once.

    Its identifier is passed on to a restarted program.
    """
    prepare(sigterm="1")
    prepare(sigterm="1")

    assert (len(Sandbox.made), extension.asked, extension.is_open) == (1, 1, True)
    assert startup._past == {"extension": ""}


def test_refused_extension_leaves_no_identifier(extension: Extension) -> None:
    """A refused registration leaves no identifier, so a program that is restarted may try again."""
    extension.is_taken = False

    prepare(sigterm="1")

    assert extension.asked == 1
    assert startup._past == {}


def test_extension_is_not_registered_again_after_restart(extension: Extension) -> None:
    """After a restart the extension is not registered again, because that would be refused."""
    prepare({PAST: "extension=ext-0"}, sigterm="1")

    assert extension.asked == 0
    assert startup._past == {"extension": "ext-0"}


@pytest.mark.parametrize(
    "error", [ValueError("main thread only"), RuntimeError("no thread"), OSError("no pipe")]
)
def test_failed_sigterm_listener_only_warns(
    caplog: pytest.LogCaptureFixture, extension: Extension, error: Exception
) -> None:
    """If the signal cannot be listened for, the start goes on with a warning.

    No extension is registered, as it would cost 500 ms at each end.
    """
    Sandbox.error = error

    prepare(sigterm="1")

    assert f"SIGTERM=1 has no effect: {error}" in caplog.text
    assert extension.asked == 0


class Supervision:
    """Stands for a fork: returns what the runtime's process would have then, or refuses."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.asked: list[str] = []
        self.published: list[object] = []

    def __call__(self, address: str, _settings: object, _environ: object) -> Supervision:
        self.asked.append(address)
        if self.refusal is not None:
            raise supervise.Refusal(self.refusal)
        return self

    def publish(self, plan: Plan) -> None:
        self.published.append((plan.fallback, plan.settings.grace_period))

    def before_next_event(self, _left: float) -> str | None:
        return self.refusal


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], Supervision]:
    """Let a supervisor be started, or be refused with a reason."""

    def begins(refusal: str | None = None) -> Supervision:
        supervision = Supervision(refusal)
        monkeypatch.setattr(supervise, "begin", supervision)
        monkeypatch.setattr(startup, "_supervised", [])
        return supervision

    return begins


def prepare_first(environ: dict[str, str] | None = None, **settings: str) -> None:
    """Prepare the process as the entrypoint does."""
    given = {f"WATCHDOG_LAMBDA_{name.upper()}": value for name, value in settings.items()}
    startup.prepare(Settings.from_environ(given), {**LAMBDA, **(environ or {})}, is_entrypoint=True)


def test_watchdog_thread_runs_when_init_ends(fresh: SimpleNamespace) -> None:
    """The watchdog's thread is running when the init ends.

    In the first invocation its start would take long, at perhaps a fourteenth of a processor.
    """
    end_init(LAMBDA, wake_signal="SIGUSR2")

    assert fresh.made == [signal.SIGUSR2]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {**LAMBDA, "AWS_LAMBDA_MAX_CONCURRENCY": "4"},
        {**LAMBDA, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"},
    ],
)
def test_no_thread_is_started_outside_lambda_or_before_fork(
    fresh: SimpleNamespace, environ: dict[str, str]
) -> None:
    """No thread is started outside of Lambda, or before the process is forked.

    A fork would not copy it, and from 3.12 on Python warns of it.
    """
    end_init(environ)

    assert fresh.made == []


@pytest.mark.parametrize("is_taken", [True, False])
def test_supervisor_is_started_first_and_registers_the_extension(
    fresh: SimpleNamespace,
    supervised: Callable[[str | None], Supervision],
    extension: Extension,
    *,
    is_taken: bool,
) -> None:
    """A supervisor is started first, and registers the extension.

    The process that it forks listens for SIGTERM and registers nothing.
    """
    extension.is_taken = is_taken
    supervision = supervised(None)
    prepare_first(last_resort="supervise", sigterm="1")
    end_init(LAMBDA, {"statusCode": 504})

    assert supervision.asked == ["127.0.0.1:9001"]
    assert fresh.last_resort is supervision
    assert (len(Sandbox.made), extension.asked) == (1, 1)
    assert extension.is_open != is_taken, "the supervisor's process keeps it"
    assert supervision.published == [({"statusCode": 504}, 3.0)]


def test_unavailable_supervisor_is_logged_and_exit_is_used(
    fresh: SimpleNamespace,
    supervised: Callable[[str | None], Supervision],
    extension: Extension,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If no supervisor can be started the log says why, once.

    Exit is used instead, and the extension is registered.
    """
    supervised("2 threads are already running")
    prepare_first(last_resort="supervise", sigterm="1")
    prepare_first(last_resort="supervise", sigterm="1")

    said = (
        "LAST_RESORT=supervise is not available, so exit is used instead: "
        "2 threads are already running"
    )
    assert [record.getMessage() for record in caplog.records] == [said]
    assert type(fresh.last_resort).__name__ == "Exit"
    assert (extension.asked, extension.is_open) == (1, True)


def test_missing_module_makes_supervisor_unavailable(
    fresh: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If Python lacks a module that the supervisor needs, such as mmap, exit is used instead."""
    monkeypatch.setitem(sys.modules, supervise.__name__, None)
    prepare_first(last_resort="supervise")

    assert (
        "LAST_RESORT=supervise is not available, so exit is used instead: import of " in caplog.text
    )
    assert type(fresh.last_resort).__name__ == "Exit"


def test_only_the_entrypoint_starts_a_supervisor(
    supervised: Callable[[str | None], Supervision], caplog: pytest.LogCaptureFixture
) -> None:
    """Only the entrypoint starts a supervisor.

    With a decorator the handler's own code is being imported already.
    """
    supervision = supervised(None)
    prepare(last_resort="supervise")

    assert supervision.asked == []
    assert "exit is used instead: only the entrypoint" in caplog.text


@pytest.mark.parametrize("refusal", [None, "no fork"])
def test_managed_instances_worker_has_supervisor_or_no_last_resort(
    fresh: SimpleNamespace,
    supervised: Callable[[str | None], Supervision],
    caplog: pytest.LogCaptureFixture,
    refusal: str | None,
) -> None:
    """A worker of Managed Instances gets a supervisor or no last resort.

    An exit would cost the worker, and its end is not announced.
    """
    supervision = supervised(refusal)
    workers = {"AWS_LAMBDA_MAX_CONCURRENCY": "4"}
    prepare_first(workers, last_resort="supervise", sigterm="1")

    assert supervision.asked == ["127.0.0.1:9001"]
    assert Sandbox.made == []
    assert fresh.last_resort is (None if refusal else supervision)
    without = "LAST_RESORT=exit, SIGTERM=1" if refusal else "SIGTERM=1"
    assert f"{without} has no effect in Managed Instances" in caplog.text


def test_no_last_resort_without_proc(
    fresh: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without /proc there is no last resort.

    The process's initial state and its children cannot be read.
    """

    def missing(_past: object) -> None:
        raise FileNotFoundError("/proc/self/environ")

    monkeypatch.setattr(process, "Start", missing)

    prepare(last_resort="exit")

    assert "LAST_RESORT=exit has no effect: there is no /proc" in caplog.text
    assert fresh.last_resort is None
    assert aftermath.renewal is None


def test_process_is_replaced_by_supervisor_or_restarts_itself(
    supervised: Callable[[str | None], Supervision],
) -> None:
    """A process is replaced by its supervisor, or restarts itself without one.

    The initial state is noted first, whatever the settings are.
    """
    prepare()
    renewals = [aftermath.renewal]
    supervision = supervised(None)
    prepare_first(last_resort="supervise")
    renewals.append(aftermath.renewal)

    assert renewals == [startup._starts[0], supervision]


def test_managed_instances_worker_does_not_restart() -> None:
    """A worker of Managed Instances does not restart itself.

    Its parent process would not recognise it.
    """
    prepare({"AWS_LAMBDA_MAX_CONCURRENCY": "4"})

    assert aftermath.renewal is None


@pytest.mark.parametrize("environ", [{}, {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}])
def test_start_without_the_gil_is_refused(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    """Without the GIL the start fails, whatever the settings are. The message says what to do."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)

    with pytest.raises(ConfigurationError, match="set PYTHON_GIL=1"):
        prepare(environ)


def test_free_threaded_build_with_gil_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free-threaded build starts with the GIL enabled, as it is by awslambdaric's client."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)

    prepare(sigterm="1")

    assert len(Sandbox.made) == 1
