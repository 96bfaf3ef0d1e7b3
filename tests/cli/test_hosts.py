"""With AWS's emulator and the built-in Runtime API the same function has the same outcome."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda.cli import builtin
from watchdog_lambda.cli import emulator as emulator_module
from watchdog_lambda.cli.builtin import Builtin
from watchdog_lambda.cli.emulator import Emulator
from watchdog_lambda.cli.function import Function, environment
from watchdog_lambda.cli.outcome import in_words, outcome_of
from watchdog_lambda.cli.processes import end_all, marked

from .support import HANDLERS, document, emulator, finish, run, start

if TYPE_CHECKING:
    from pathlib import Path

    from watchdog_lambda.cli.host import Host

TIMEOUT = "2"
PRINTED = ("imported", "call", "cleanup", "flushed", "to std", "without", "a\t", "not ", "goodbye")


@dataclass(frozen=True)
class Scene:
    """A run, and the outcome that it must have on both hosts."""

    do: str
    status: int
    outcome: str
    response: object = None
    error: str | None = None
    """A piece of ``type: message``."""
    record: str | None = None
    """The outcome in the watchdog's record."""
    printed: tuple[str, ...] = ("imported", "call 1")
    phases: tuple[str, ...] = ("running", "left")
    env: dict[str, str] = field(default_factory=dict[str, str])
    timeout: str = TIMEOUT
    arguments: tuple[str, ...] = ()


OK = {"calls": 1, "memory": "256", "variable": "value", "text": "grün"}
CAUGHT = ("running", "interrupt", "left")
EXITED = "Runtime.ExitError: RequestId: ID Error: Runtime exited "
SCENES = {
    "ok": Scene("ok", 0, "answered", OK, arguments=("--memory", "256"), env={"VARIABLE": "value"}),
    "lookalike": Scene(
        "lookalike", 0, "answered", {"errorType": "Mine", "errorMessage": "not an error"}
    ),
    "error": Scene("fail", 1, "failed", error="KeyError: 'own'"),
    "unmarshalled": Scene("unmarshalled", 1, "failed", error="Runtime.MarshalError: Unable to"),
    "output": Scene(
        "speak",
        0,
        "answered",
        printed=(
            *("imported", "call 1", "to stdout", "to stderr"),
            *("without an end", "a\tb\rc", "not \ufffd text"),
        ),
    ),
    "caught": Scene(
        *("sleep", 3, "caught"),
        error="LambdaTimeout: interrupted after",
        record="raised",
        printed=("imported", "call 1", "cleanup done"),
        phases=CAUGHT,
    ),
    "caught and answered, with a hook": Scene(
        *("answer", 3, "caught", {"statusCode": 504}),
        record="returned",
        printed=("imported", "call 1", "flushed"),
        phases=("running", "hook", "interrupt", "cleanup", "left"),
        env={"HOOK": "1"},
    ),
    "swallowed": Scene(
        *("swallow", 3, "caught"),
        error="LambdaTimeout: interrupted after",
        record="raised",
        phases=("running", "interrupt", "interrupt", "left"),
    ),
    "stuck": Scene(
        *("stuck", 4, "killed"),
        error="Sandbox.Timedout: Task timed out after 2.00 seconds",
        record="stuck",
        phases=("running", "killed"),
    ),
    "unwatched": Scene(
        *("sleep", 4, "killed"),
        error="Sandbox.Timedout: Task timed out after 1.00 seconds",
        phases=("running", "killed"),
        timeout="1",
        arguments=("--unwatched",),
    ),
    "exit": Scene("leave", 1, "failed", error=EXITED + "with error: exit status 3"),
    "exit without a word": Scene(
        "leave_quietly", 1, "failed", error=EXITED + "without providing a reason"
    ),
    "crash": Scene("crash", 1, "failed", error=EXITED + "with error: signal: segmentation fault"),
    "import error": Scene(
        *("ok", 1, "failed"),
        error="ValueError: no such table",
        printed=("imported",),
        env={"FAIL_AT_IMPORT": "1"},
    ),
    "exit at import": Scene(
        *("ok", 1, "failed"),
        error="with error: exit status 7",
        printed=("imported",),
        env={"EXIT_AT_IMPORT": "1"},
    ),
    "last resort: exit": Scene(
        *("stuck", 3, "caught"),
        error="LambdaTimeout: gave up after",
        record="stuck",
        phases=("running", "left"),
        env={"WATCHDOG_LAMBDA_LAST_RESORT": "exit"},
        timeout="4",  # a 32nd part of it is left to post the answer
    ),
    "last resort: supervise": Scene(
        *("stuck", 3, "caught"),
        error="LambdaTimeout: gave up after",
        record="stuck",
        phases=("running", "left"),
        env={"WATCHDOG_LAMBDA_LAST_RESORT": "supervise"},
        timeout="3",
    ),
    "supervised crash": Scene(
        *("crash", 1, "crashed"),
        error="RuntimeCrash: killed by SIGSEGV after 0.",
        env={"WATCHDOG_LAMBDA_LAST_RESORT": "supervise"},
    ),
    "supervised exit": Scene(
        *("leave", 1, "crashed"),
        error="RuntimeCrash: exited with status 3 after 0.",
        env={"WATCHDOG_LAMBDA_LAST_RESORT": "supervise"},
    ),
}


def command(scene: Scene, host: str, *more: str) -> list[str]:
    words = ["invoke", "scenes.handler", "--json", "--timeout", scene.timeout]
    words += ["--event", json.dumps({"do": scene.do}), "--emulator", host, *scene.arguments, *more]
    for name, value in scene.env.items():
        words += ["--env", f"{name}={value}"]
    return words


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Return what an invocation's outcome has that depends neither on the host nor on the clock."""
    error = found["error"]
    told = None
    if error is not None:
        told = f"{error['errorType']}: {error['errorMessage']}"
        told = re.sub(r"RequestId: [0-9a-f-]{36}", "RequestId: ID", told)
        if error["errorType"] in {"LambdaTimeout", "RuntimeCrash"}:
            told = told.split(" after ", 1)[0]
    record = found["record"]
    lines = [line["text"] for line in found["log"] if line["text"].startswith(PRINTED)]
    if "imported" in lines[1:]:
        # The start of a new process may come too late for the command to see it.
        del lines[lines.index("imported", 1) :]
    return {
        "outcome": found["outcome"],
        "response": found["response"],
        "error": told,
        "record": None
        if record is None
        else (
            record["outcome"],
            [(i["exception"], i["outcome"]) for i in record["interrupts"]],
            [(h["name"], h["outcome"]) for h in record["hooks"]],
        ),
        "printed": lines,
        # Some have a start within their time, and a phase below a millisecond is left out.
        "phases": [
            phase["phase"]
            for phase in found["timeline"]
            if phase["phase"] != "init"
            and (phase["phase"] not in {"cleanup", "settle"} or is_long(phase))
        ],
        "is_new": found["init_seconds"] is not None,
    }


def is_long(phase: dict[str, Any]) -> bool:
    """Return whether the phase is meant to take long, like a handler's cleanup."""
    return bool(phase["end"] - phase["start"] >= 0.05)


@pytest.mark.parametrize("name", SCENES)
def test_both_hosts_give_the_same_outcome(name: str) -> None:
    """Exit status, answer, record, output and phases are the scene's on both hosts."""
    scene = SCENES[name]
    both = [start(*command(scene, host)) for host in ("none", emulator())]
    builtin, aws = [document(done) for done in [finish(process) for process in both]]

    assert (builtin["host"], aws["host"]) == ("built-in", "emulator")
    assert builtin["exit_status"] == aws["exit_status"] == scene.status
    [one], [other] = builtin["invocations"], aws["invocations"]
    summaries = summary(one), summary(other)
    if "EXIT_AT_IMPORT" in scene.env:
        # The emulator writes nothing, and its request's identifier is unknown.
        for each in summaries:
            assert str(each.pop("error")).startswith("Runtime.ExitError: ")
    assert summaries[0] == summaries[1]
    assert one["outcome"] == scene.outcome
    assert one["response"] == scene.response
    assert summaries[0]["printed"] == list(scene.printed)
    assert summaries[0]["phases"] == list(scene.phases)
    assert (one["record"] or {}).get("outcome") == scene.record
    for each in (one, other):
        told = each["error"] or {"errorType": "", "errorMessage": ""}
        told = f"{told['errorType']}: {told['errorMessage']}"
        assert (scene.error or "") in re.sub(r"RequestId: [0-9a-f-]{36}", "RequestId: ID", told)
        assert_in_time(each, float(scene.timeout))


def assert_in_time(found: dict[str, Any], timeout: float) -> None:
    """Check that the phases follow each other without a gap until the hard deadline."""
    timeline = found["timeline"]
    assert timeline[0]["start"] == 0
    assert timeline[-1]["end"] == timeout
    assert all(phase["start"] <= phase["end"] <= timeout for phase in timeline)
    filled = [p for p in timeline if p["phase"] not in {"hook", "interrupt", "killed"}]
    for one, other in itertools.pairwise(filled):
        assert other["start"] == pytest.approx(one["end"], abs=0.002)
    if found["outcome"] == "killed":
        assert timeout <= found["seconds"] < timeout + 1
    elif found["record"] is not None:
        # The grace period is a quarter of the time, in which the emulator's start is included.
        assert 0.7 * timeout < found["seconds"] < timeout


def test_both_hosts_restart_after_kill_and_keep_surviving_process(tmp_path: Path) -> None:
    """Both hosts start a new process after a kill, and keep one that has survived.

    There are three invocations.
    """
    event = json.dumps({"do": "stuck_once", "marker": str(tmp_path / "{}")})
    both = []
    for number, host in enumerate(("none", emulator())):
        words = ["invoke", "scenes.handler", "--json", "--timeout", "1", "--repeat", "3"]
        words += ["--event", event.replace("{}", str(number), 1), "--emulator", host]
        both.append(start(*words))

    for found in [document(done) for done in [finish(process) for process in both]]:
        assert found["exit_status"] == 4
        first, second, third = found["invocations"]
        assert first["outcome"] == "killed"
        assert second["response"] == {"calls": 1}
        assert third["response"] == {"calls": 2}
        starts = [each["init_seconds"] is not None for each in (first, second, third)]
        assert starts == [True, True, False]


def test_both_hosts_serve_next_event_in_supervised_function(tmp_path: Path) -> None:
    """With LAST_RESORT=supervise both hosts get an answer.

    The next invocation finds the same sandbox.
    """
    event = json.dumps({"do": "stuck_once", "marker": str(tmp_path / "{}")})
    both = []
    for number, host in enumerate(("none", emulator())):
        words = ["invoke", "scenes.handler", "--json", "--timeout", "3", "--repeat", "2"]
        words += ["--event", event.replace("{}", str(number), 1), "--emulator", host]
        words += ["--env", "WATCHDOG_LAMBDA_LAST_RESORT=supervise"]
        both.append(start(*words))

    for found in [document(done) for done in [finish(process) for process in both]]:
        assert found["exit_status"] == 3
        first, second = found["invocations"]
        assert first["error"]["errorType"] == "LambdaTimeout"
        assert first["record"]["last_resort"] == "supervise"
        assert second["response"] == {"calls": 1}
        assert second["init_seconds"] is None


def test_both_hosts_run_sandbox_shutdown_hook() -> None:
    """With SIGTERM=1 both hosts run the hook at the end of the command."""
    scene = Scene("ok", 0, "answered", env={"WATCHDOG_LAMBDA_SIGTERM": "1"})
    both = [start(*command(scene, host)) for host in ("none", emulator())]

    for found in [document(done) for done in [finish(process) for process in both]]:
        assert found["exit_status"] == 0
        assert "goodbye" in [line["text"] for line in found["log_after"]]


def test_fractional_timeout_needs_the_builtin_host() -> None:
    """The built-in host kills at 0.5 s exactly.

    If the emulator is asked for, the error says which timeouts it takes.
    """
    scene = Scene("stuck", 4, "killed", timeout="0.5")
    found = document(run(*command(scene, "none")))

    [killed] = found["invocations"]
    assert killed["error"]["errorMessage"] == "Task timed out after 0.50 seconds"
    assert 0.5 <= killed["seconds"] < 1
    refused = run(*command(scene, emulator()))
    assert refused.returncode == 2
    assert "takes whole seconds; use for example --timeout 1" in refused.stderr


def function_with(**variables: str) -> Function:
    environ = environment(variables, handler="scenes.handler", memory=128, is_watched=True)
    return Function(
        handler="scenes.handler",
        folder=HANDLERS,
        timeout=5,
        memory=128,
        environ=environ,
        is_watched=True,
    )


@pytest.mark.parametrize("kind", ["built-in", "emulator"])
def test_ctrl_c_while_closing_leaves_nothing_running(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C while a host is being closed leaves nothing running.

    Closing is restarted on the way out.
    """
    calls = 0

    def cut_short(mark: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        end_all(mark)

    function = function_with()
    host: Host
    if kind == "built-in":
        host = Builtin(function, lambda _line: None)
    else:
        host = Emulator(emulator(), function, lambda _line: None)

    def invoke_and_close() -> None:
        with host:
            host.invoke(b'{"do": "ok"}', lambda _what, _at: None)
            assert list(marked(host.mark))
            monkeypatch.setattr(builtin, "end_all", cut_short)
            monkeypatch.setattr(emulator_module, "end_all", cut_short)
            host.close()

    with pytest.raises(KeyboardInterrupt):
        invoke_and_close()

    assert calls > 1
    assert list(marked(host.mark)) == []


def test_hanging_init_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that does not end is killed after the 10 s that Lambda gives, fewer here.

    The next invocation starts a new process.
    """
    monkeypatch.setattr(builtin, "INIT_LIMIT", 0.5)
    function = function_with(HANG_AT_IMPORT="1")
    with Builtin(function, lambda _line: None) as host:
        for _ in range(2):
            hung = host.invoke(b"{}", lambda _what, _at: None)

            assert outcome_of(hung) == "killed"
            assert hung.body == "Init timed out after 0.50 seconds"
            assert [line.text for line in hung.lines] == ["imported"]
            assert in_words(hung, 5)[0].startswith("killed: the start did not end")


def test_init_does_not_count_for_timeout_on_builtin_host() -> None:
    """With the built-in host the start does not count for the invocation's time.

    Lambda does the same.
    """
    found = document(run(*command(Scene("ok", 0, "answered", timeout="0.2"), "none")))

    [answered] = found["invocations"]
    assert answered["outcome"] == "answered"
    assert answered["init_seconds"] > 0
    assert answered["init_counts"] is False
