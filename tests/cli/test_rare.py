"""Tests of the command with rare conditions of the machine, the function or the caller."""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import io
import json
import logging
import os
import signal
import socket
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import watchdog_lambda
from watchdog_lambda._config import Settings
from watchdog_lambda._engine.clock import Timeline
from watchdog_lambda._hooks import HookRegistry
from watchdog_lambda._lambda import sandbox
from watchdog_lambda.cli import arguments, examine, processes, timing
from watchdog_lambda.cli import check as check_module
from watchdog_lambda.cli import handler as handler_module
from watchdog_lambda.cli import invoke as invoke_module
from watchdog_lambda.cli.builtin import Builtin
from watchdog_lambda.cli.check_view import phases, show
from watchdog_lambda.cli.emulator import Emulator
from watchdog_lambda.cli.examine import signal_name
from watchdog_lambda.cli.function import CannotRun, Function, Invocation, environment
from watchdog_lambda.cli.log import Log
from watchdog_lambda.cli.loopback import Connection, Server, has_hung_up
from watchdog_lambda.cli.report import Report
from watchdog_lambda.cli.template import Deadlines
from watchdog_lambda.cli.view import TextView
from watchdog_lambda.testing import isolated_hooks

from .support import HANDLERS

if TYPE_CHECKING:
    from pathlib import Path


def function(folder: Path, **more: str) -> Function:
    environ = environment(more, handler="scenes.handler", memory=128, is_watched=True)
    return Function(
        handler="scenes.handler",
        folder=folder,
        timeout=2.0,
        memory=128,
        environ=environ,
        is_watched=True,
    )


# ---- hosts -------------------------------------------------------------------------------------


def test_runtime_start_failure_is_reported(tmp_path: Path) -> None:
    """A runtime that cannot be started, as in a folder that was removed, is reported."""
    with (
        Builtin(function(tmp_path / "gone"), lambda _line: None) as host,
        pytest.raises(CannotRun, match=r"the runtime could not be started: .*gone"),
    ):
        host.invoke(b"{}", lambda _what, _at: None)


def test_emulator_start_failure_is_reported(tmp_path: Path) -> None:
    """An emulator that is no program, and so cannot be started, is reported."""
    program = tmp_path / "aws-lambda-rie"
    program.write_text("no program")
    program.chmod(0o755)

    with (
        pytest.raises(CannotRun, match="aws-lambda-rie could not be started"),
        Emulator(str(program), function(HANDLERS), lambda _line: None),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("said", "tries"), [("bind: address already in use", 5), ("no such flag", 1)]
)
def test_taken_port_is_retried_with_another(tmp_path: Path, said: str, tries: int) -> None:
    """If a port is taken another one is tried, five times, but not for any other error.

    The emulator's last lines are reported.
    """
    program, log = tmp_path / "aws-lambda-rie", tmp_path / "log"
    program.write_text(f"#!/bin/sh\necho $2 >> {log}\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)

    host = Emulator(str(program), function(HANDLERS), lambda _line: None)
    with pytest.raises(
        CannotRun, match=f"did not start; use another with --emulator PATH\n.*{said}"
    ):
        host.__enter__()

    assert len(log.read_text().split()) == tries


def test_unresponsive_emulator_is_reported() -> None:
    """An emulator that gives no answer is reported.

    It has ended, or another process listens on its port.
    """
    host = Emulator("/bin/rie", function(HANDLERS), lambda _line: None)
    host._said.append("its last words")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host._port = unused.getsockname()[1]
        try:
            with pytest.raises(CannotRun, match=r"(?s)/bin/rie gave no answer.*its last words"):
                host._post(b"{}")
        finally:
            host.close()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Process runtime-1 exited: exit status 0", "without providing a reason"),
        ("Process runtime-1 exited: exit status 3", "with error: exit status 3"),
        ("nothing of use", "with error: exit status unknown"),
    ],
)
def test_silent_process_exit_is_read_from_emulator_log(
    monkeypatch: pytest.MonkeyPatch, said: str, message: str
) -> None:
    """If the answer is empty because the process has ended, the emulator's log says how.

    It has a line for that.
    """
    host = Emulator("/bin/rie", function(HANDLERS), lambda _line: None)

    def post(_event: bytes) -> tuple[int, str]:
        host._said.append(said)
        return 502, ""

    monkeypatch.setattr(host, "_post", post)
    try:
        invocation = host.invoke(b"{}", lambda _what, _at: None)
    finally:
        host.close()

    assert invocation.kind == "error"
    assert invocation.init_seconds is None
    assert json.loads(invocation.body) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"Error: Runtime exited {message}",
    }


def test_killed_invocation_is_shown_with_lambdas_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A killed invocation is shown with Lambda's own answer, which is not JSON."""
    view = TextView(function(HANDLERS), None, "")
    assert view._elapsed() == 0.0

    view.show(Invocation("Task timed out after 2.00 seconds", "killed", 2.0, 0.0, None))

    assert capsys.readouterr().out == "Task timed out after 2.00 seconds\n"


# ---- parts of hosts ----------------------------------------------------------------------------


def test_closed_connection_counts_as_hung_up() -> None:
    """A connection that was closed or reset counts as hung up, and an open one does not."""
    local, peer = socket.socketpair()
    with local:
        assert not has_hung_up(local)
        peer.close()
        assert has_hung_up(local)
    assert has_hung_up(local)


def test_closing_a_disconnected_socket_is_no_error() -> None:
    """A connection that has ended by itself is no error, and all the others are closed."""

    class Closed:
        def shutdown(self, _how: int) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

    server = Server(Connection)
    local, peer = socket.socketpair()
    with local, peer:
        server._connections = {Closed(), local}  # type: ignore[arg-type]
        server.hang_up()
        assert peer.recv(1) == b""
    server.server_close()


def test_unkillable_process_is_given_up_after_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never ends, because the kernel keeps it, is given up after a bound."""
    pauses: list[float] = []
    monkeypatch.setattr(processes, "marked", lambda _mark: [999_999_999])
    monkeypatch.setattr("watchdog_lambda.cli.processes.time.sleep", pauses.append)

    processes.end_all("a mark")

    assert len(pauses) == processes._ATTEMPTS


def test_pipe_with_closed_write_end_is_read_to_eof() -> None:
    """A pipe whose other end was closed, as after a fork, is read to its end."""
    log = Log("test", lambda _line: None)
    os.close(log.write_end)

    log._reader.join(10)

    assert not log._reader.is_alive()
    os.close(log._read_end)


def test_installed_package_is_not_added_to_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package is not added to the path. A checkout is added at the end of it."""
    monkeypatch.setenv("PYTHONPATH", "/existing")
    checkout = function(HANDLERS).environ["PYTHONPATH"]
    installed = tmp_path / "site-packages" / "watchdog_lambda" / "__init__.py"
    monkeypatch.setattr(watchdog_lambda, "__file__", str(installed))

    assert function(HANDLERS).environ["PYTHONPATH"] == "/existing"
    assert checkout.startswith("/existing" + os.pathsep)


# ---- the command line --------------------------------------------------------------------------


def test_importing_main_module_runs_nothing() -> None:
    """The module runs nothing when it is only imported, as by a tool that looks for modules."""
    module = importlib.import_module("watchdog_lambda.cli.__main__")

    assert callable(module.main)


def test_non_numeric_timeout_is_refused() -> None:
    """A timeout that is no number is refused with the message for one that is too long."""
    from watchdog_lambda.cli import values  # noqa: PLC0415

    with pytest.raises(argparse.ArgumentTypeError, match="'soon' is not a number of seconds"):
        values.seconds("soon")


@pytest.mark.parametrize("is_ignored", [False, True])
def test_nohup_is_respected(monkeypatch: pytest.MonkeyPatch, is_ignored: bool) -> None:  # noqa: FBT001
    """Under nohup a hangup ends nothing, and output that goes to no file is not changed."""
    caught: list[int] = []
    handler = signal.SIG_IGN if is_ignored else signal.SIG_DFL
    monkeypatch.setattr(signal, "getsignal", lambda _number: handler)
    monkeypatch.setattr(signal, "signal", lambda number, _handler: caught.append(number))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(invoke_module, "invoke", lambda _options: 7)

    assert arguments.main(["invoke", "scenes.handler"]) == 7

    assert (signal.SIGHUP in caught) is not is_ignored
    assert signal.SIGTERM in caught


def test_invoke_without_runtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the runtime, which is an extra, nothing can be invoked, and the error says so."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(CannotRun, match=r"pip install 'watchdog-lambda\[runtime\]'"):
        invoke_module.function_of(argparse.Namespace())


# ---- check -------------------------------------------------------------------------------------


def examined(argument: str | None = "checked.plain", **environ: str) -> Report:
    return examine.examine(dict(environ), {}, argument, Deadlines(60.0))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the import by the handler that would be found."""
    found = SimpleNamespace(handler=lambda _event, _context: None)

    def resolve(_environ: object, _name: str) -> Any:
        if isinstance(found.handler, BaseException):
            raise found.handler
        return found.handler

    monkeypatch.setattr(handler_module, "resolve", resolve)
    return found


def texts(report: Report, level: str) -> list[str]:
    return [finding.text for finding in report.findings if finding.level == level]


def test_missing_runtime_is_an_error(checked: SimpleNamespace) -> None:
    """A missing runtime is an error, because the handler cannot be found without it.

    Any other missing module is the user's.
    """
    checked.handler = ModuleNotFoundError("no", name="awslambdaric")
    [text] = texts(examined(), "error")
    assert "pip install 'watchdog-lambda[runtime]'" in text

    checked.handler = ModuleNotFoundError("no", name="somewhere")
    with pytest.raises(ModuleNotFoundError):
        examined()


def test_ctrl_c_during_handler_import_ends_the_check(checked: SimpleNamespace) -> None:
    """Ctrl-C in the handler's import ends the check.

    It is not taken for an error of the module's.
    """
    checked.handler = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        examined()


def test_c_handler_has_no_location(checked: SimpleNamespace, capsys: Any) -> None:
    """A handler in C is shown without a place, and as one that is not Python."""
    checked.handler = max

    report = examined()

    assert report.handler is not None
    assert (report.handler.file, report.handler.line) == ("", 0)
    show(report, 0, as_json=False)
    assert "handler  checked.plain: not Python, def" in capsys.readouterr().out


@pytest.mark.usefixtures("checked")
def test_earlier_of_timeout_and_setting_applies() -> None:
    """The time is the earlier of the timeout and the setting.

    A later setting is noted, since it has no effect.
    """
    earlier = examined(WATCHDOG_LAMBDA_TIMEOUT="30")
    later = examined(WATCHDOG_LAMBDA_TIMEOUT="90")

    assert (earlier.timeout, later.timeout) == (30.0, 60.0)
    assert not any("TIMEOUT=" in text for text in texts(earlier, "note"))
    assert (
        "TIMEOUT=90 is longer than the function's own timeout of 60 s: it has no effect unless the "
        "context gives no time"
    ) in texts(later, "note")


@pytest.mark.usefixtures("checked")
def test_empty_variable_counts_as_unset() -> None:
    """An empty variable counts as unset, as for the settings themselves."""
    report = examined(WATCHDOG_LAMBDA_GRACE_PERIOD=" ")

    [setting] = [each for each in report.settings if each.name == "grace_period"]
    assert (setting.value, setting.source) == (3.0, "default")


@pytest.mark.usefixtures("checked")
def test_disabled_wake_signal_and_ineffective_settings_are_noted() -> None:
    """Without a wake signal the check says what a blocked call does.

    A setting without effect is named if it is set.
    """
    report = examined(
        WATCHDOG_LAMBDA_WAKE_SIGNAL="none",
        WATCHDOG_LAMBDA_LAST_RESORT="exit",
        AWS_LAMBDA_MAX_CONCURRENCY="2",
    )

    assert any(
        text.startswith("WAKE_SIGNAL=none: a blocked call") for text in texts(report, "note")
    )
    assert [t for t in texts(report, "warning") if "Managed" in t] == [
        "LAST_RESORT=exit has no effect in Managed Instances"
    ]


@pytest.mark.usefixtures("checked")
def test_sigterm_setting_without_a_hook_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM=1 without a hook is noted, since the extension has a cost and no use."""
    monkeypatch.setattr(sandbox, "hooks", HookRegistry())

    report = examined(WATCHDOG_LAMBDA_SIGTERM="1")

    text = "SIGTERM=1, and no sandbox_shutdown_hook is registered by the import"
    assert text in texts(report, "note")


def test_stage_reaching_into_grace_period_is_noted(checked: SimpleNamespace) -> None:
    """A stage is noted if its budget may extend into the grace period."""
    watchdog = watchdog_lambda.Watchdog()

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        """A handler that a check never calls."""

    checked.handler = handler
    with isolated_hooks():
        watchdog.shutdown_hook(before=3.5)(lambda _details: None)
        notes = texts(examined(), "note")

    assert any("before=3.5 (" in text and "may still be running" in text for text in notes)


def test_nothing_is_checked_without_usable_settings() -> None:
    """Without usable settings, whose errors are reported, nothing is checked."""
    report = Report(3.0)

    timing.draw_up(report, 3.0, None)
    examine._look_at_process(report, {})

    assert (report.timeline, report.findings) == (None, [])


def test_signals_are_shown_by_name() -> None:
    """Signals are shown by name, and real-time ones by their distance."""
    assert signal_name(signal.SIGURG) == "SIGURG"
    assert signal_name(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert signal_name(signal.SIGRTMIN) == "SIGRTMIN"


def test_settings_are_shown_without_handler_and_timeline(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a handler and a timeline the settings and the errors are shown."""
    report = Report(3.0)
    report.add("error", "no handler to wrap")

    show(report, 2, as_json=False)

    assert capsys.readouterr().out == "error: no handler to wrap\n\nsettings\n"


def test_timeline_without_interrupts_has_no_cleanup() -> None:
    """With INTERRUPT=none the timeline has hooks, last call and the end, and no cleanup."""
    report = Report(30.0, in_force=Settings.from_environ({"WATCHDOG_LAMBDA_INTERRUPT": "none"}))
    timeline = Timeline(30.0, grace_period=3.0, hook_budget=None, last_call=0.5)

    assert [phase.name for phase in phases(report, timeline)] == ["running", "last call", "killed"]


def test_working_folder_is_added_to_the_path_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is added to the path once. If it is there already the path is not changed."""
    monkeypatch.setattr(sys, "path", [str(HANDLERS), "/elsewhere"])
    monkeypatch.chdir(HANDLERS)
    monkeypatch.setattr(check_module, "examine", lambda *_given: Report(3.0))
    monkeypatch.setattr(check_module, "show", lambda *_given, as_json: None)
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread()])
    logger = logging.getLogger("watchdog_lambda")
    monkeypatch.setattr(logger, "disabled", logger.disabled)
    options = argparse.Namespace(
        env_file={},
        env=[],
        path=HANDLERS,
        handler=None,
        timeout=3.0,
        caller_timeout=None,
        template=None,
        strict=False,
        json=False,
    )

    assert check_module.check(options) == 0

    assert sys.path == [str(HANDLERS), "/elsewhere"]
