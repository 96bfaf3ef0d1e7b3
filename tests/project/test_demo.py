"""The demo shows what it claims, and says so if it does not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tools import demo
from tools.demo import Claim, Run
from tools.emulator import EmulatorUnavailable, fetch_emulator
from watchdog_lambda.cli.function import Function, Invocation
from watchdog_lambda.cli.log import Line

ROOT: Final = Path(__file__).parents[2]
REPORT: Final = {
    "event": "watchdog.timeout",
    "location": "app.py:27 (load_page)",
    "outcome": "returned",
    "elapsed_ms": 2500,
    "remaining_ms": 500,
    "ended_after_ms": 2500,
    "hooks": [],
    "interrupts": [
        {
            "exception": "LambdaTimeout",
            "outcome": "delivered",
            "after_ms": 2270,
            "landed_after_ms": 2270,
        }
    ],
}


def run(late: Invocation, *texts: str, init_seconds: float | None) -> Run:
    """Return an invented run."""
    function = Function(
        handler="app.handler",
        folder=ROOT,
        timeout=3.0,
        memory=128,
        environ={},
        is_watched=init_seconds is None,
    )
    late.lines = [Line(2.5, text) for text in texts]
    after = Invocation("{}", "response", 0.002, 0.0, init_seconds)
    return Run(function, late, after)


KILLED: Final = run(
    Invocation("Task timed out after 3.00 seconds", "killed", 3.1, 0.0),
    "begins",
    init_seconds=0.2,
)
ANSWERED: Final = run(
    Invocation('{"statusCode": 504}', "response", 2.51, 0.0),
    "begins",
    "finally: closed",
    json.dumps(REPORT),
    init_seconds=None,
)


def command(*arguments: str) -> subprocess.Popen[str]:
    """Return the command that starts the demo without dev.py.

    That would set up the environment first.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "tools.demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_demo_shows_what_it_claims() -> None:
    """The demo shows a kill without the watchdog and an answer in time with it.

    The next invocation has the same process.
    """
    process = command("--timeout", "2")
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert len(re.findall(r"^shown: ", output, re.MULTILINE)) == 3
    assert re.search(
        r'^caller got +Task timed out after 2\.00 seconds +\{"statusCode": 504',
        output,
        re.MULTILINE,
    )
    assert re.search(
        r"^cleanup +no `finally` ran: killed +`finally` ran after 1\.[3-9]", output, re.MULTILINE
    )
    assert re.search(
        r"^next call .*cold: a new process .*warm: the same process", output, re.MULTILINE
    )
    watched = demo.run(demo._parse(["--timeout", "2"]), fetch_emulator(), is_watched=True)
    pids = [json.loads(call.body)["pid"] for call in (watched.late, watched.after)]
    assert pids[0] == pids[1]


def test_demo_fails_if_handler_is_in_time() -> None:
    """With a handler that is in time the demo fails, because nothing was killed."""
    process = command("--event", '{"sleep": 0.1}', "--timeout", "2")
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 1, errors
    assert "NOT SHOWN: without the watchdog the handler was not killed" in output


def test_missing_handler_shows_runtime_error() -> None:
    """If the handler does not exist, the runtime's own error is shown, without a traceback."""
    process = command("--handler", "nowhere.handler")
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Runtime.ImportModuleError: Unable to import module 'nowhere'" in errors
    assert output == ""


def test_ctrl_c_leaves_nothing_running() -> None:
    """At Ctrl-C the emulator and the function end with the demo."""
    process = command()
    assert process.stderr is not None
    for line in process.stderr:
        if "calling the handler" in line:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    emulator = int(children.read_text(encoding="ascii"))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)

    assert process.returncode == 130
    assert errors.endswith("interrupted; nothing is left running\n")
    with pytest.raises(ProcessLookupError):
        os.killpg(emulator, 0)


def test_demo_is_skipped_without_an_emulator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an emulator the demo is skipped with the reason. It has an exit status for this."""

    def unavailable() -> Path:
        raise EmulatorUnavailable("none for this machine")

    monkeypatch.setattr(demo, "fetch_emulator", unavailable)

    assert demo.main([]) == 77
    assert capsys.readouterr().out == "SKIPPED: no demo: none for this machine\n"


@pytest.mark.parametrize(
    "wrong",
    [("--timeout", "0"), ("--timeout", "1.5"), ("--event", "{"), ("--path", "no/where"), ("-x",)],
)
def test_wrong_argument_is_refused(
    wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong argument is refused before anything is started."""
    with pytest.raises(SystemExit) as ended:
        demo.main(wrong)

    assert ended.value.code == 2
    assert wrong[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("without", "watched", "shown"),
    [
        (KILLED, ANSWERED, [True, True, True]),
        (ANSWERED, ANSWERED, [False, True, True]),
        (KILLED, KILLED, [True, False, False]),
    ],
)
def test_claims_are_judged_by_observed_runs(without: Run, watched: Run, shown: list[bool]) -> None:
    """Each claim of the demo is judged by what was seen."""
    assert [claim.shown for claim in demo.claims(without, watched)] == shown


def test_runs_are_shown_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Both runs are shown side by side, with the hard deadlines of their timelines aligned."""
    demo.show("title", KILLED, ANSWERED, [Claim(shown=True, text="seen")])

    shown = capsys.readouterr().out
    lines = shown.splitlines()
    [caller] = [line for line in lines if line.startswith("caller got")]
    assert re.search(r"Task timed out after 3\.00 seconds +\{.statusCode", caller)
    [killed] = [line for line in lines if line.startswith("killed")]
    rulers = [line for line in lines if re.fullmatch(r" +\|[-|]+\|", line)]
    assert {len(ruler) for ruler in rulers} == {killed.index("X") + 1}
    assert "LambdaTimeout: delivered" in shown
    assert lines[-1] == "shown: seen"
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in shown
