"""The demo shows what it claims, and says so when it does not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tools import demo
from tools.demo import Claim, Entry, Run
from tools.demo_screen import Screen
from tools.emulator import EmulatorUnavailable, Response

ROOT: Final = Path(__file__).parents[2]
TIMEOUT: Final = 3
REPORT: Final[dict[str, Any]] = {
    "location": "app.py:27 (load_page)",
    "outcome": "returned",
    "elapsed_ms": 2500,
    "remaining_ms": 500,
    "grace_period_ms": 750,
    "hooks": [{"name": "app.flush", "outcome": "ok", "duration_ms": 10.0}],
    "interrupts": [
        {
            "exception": "LambdaTimeout",
            "outcome": "delivered",
            "after_ms": 2270,
            "landed_after_ms": 2270,
        }
    ],
}


def run(answer: Response, *entries: Entry, report: dict[str, Any] | None, is_warm: bool) -> Run:
    """Make a run up."""
    return Run(
        command="python -m runtime app.handler",
        timeout=TIMEOUT,
        answer=answer,
        log=list(entries),
        report=report,
        cleanup_marker="finally",
        process=100,
        next_answer=Response(200, "{}", 0.002),
        next_process=100 if is_warm else 200,
    )


KILLED: Final = run(
    Response(200, "Task timed out after 3.00 seconds", 3.1),
    Entry(0.01, "INFO", "begins"),
    report=None,
    is_warm=False,
)
ANSWERED: Final = run(
    Response(200, '{"statusCode": 504}', 2.51),
    Entry(0.01, "INFO", "begins"),
    Entry(2.5, "INFO", "finally: closed"),
    Entry(2.5, "", "watchdog.timeout"),
    report=REPORT,
    is_warm=True,
)


def command(*arguments: str) -> subprocess.Popen[str]:
    """Start it as people do, but without dev.py, which would look after the environment first."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_demo_shows_what_it_claims() -> None:
    """The real one: killed without, answered in time with, the same process next."""
    process = command("--json", "--timeout", "2")
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    result = json.loads(output)
    assert [claim["shown"] for claim in result["claims"]] == [True, True, True]
    without, watched = result["without"], result["with"]
    assert without["answer"] == "Task timed out after 2.00 seconds"
    assert without["cleanup_at"] is None
    assert without["next"]["process"] != without["process"]
    assert json.loads(watched["answer"])["statusCode"] == 504
    assert watched["cleanup_at"] == pytest.approx(1.6, abs=0.3)
    assert json.loads(watched["next"]["answer"])["pid"] == watched["process"]


def test_handler_that_is_in_time_shows_nothing() -> None:
    """A demo in which nothing is killed has not shown what it is there to show."""
    process = command("--event", '{"sleep": 0.1}', "--timeout", "2")
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 1, errors
    assert "NOT SHOWN: without the watchdog the handler was not killed" in output


def test_handler_that_is_not_there_is_named() -> None:
    """The runtime's own words, without a traceback around them."""
    process = command("--handler", "nowhere.handler")
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Runtime.ImportModuleError: Unable to import module 'nowhere'" in errors
    assert output == ""


def test_ctrl_c_leaves_nothing_running() -> None:
    """Neither the emulator nor the function outlives the demo."""
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


def test_machine_without_an_emulator_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Skipped, with the reason, and with the exit status that says so."""

    def unavailable() -> Path:
        raise EmulatorUnavailable("none for this machine")

    monkeypatch.setattr(demo, "fetch_emulator", unavailable)

    assert demo.main([]) == 77
    assert capsys.readouterr().out == "SKIPPED: no demo: none for this machine\n"


@pytest.mark.parametrize(
    "wrong",
    [("--timeout", "0"), ("--timeout", "1.5"), ("--event", "{"), ("--path", "no/where"), ("-x",)],
)
def test_wrong_argument_is_told(wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
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
def test_claims_are_what_was_seen(without: Run, watched: Run, shown: list[bool]) -> None:
    """Each by itself."""
    assert [claim.shown for claim in demo.claims(without, watched)] == shown


def test_timeline_is_to_scale(capsys: pytest.CaptureFixture[str]) -> None:
    """Each part of a bar is as long as it lasted, and the hard deadlines are below each other."""
    Screen().show(["title"], KILLED, ANSWERED, [Claim(shown=True, text="seen")])

    lines = capsys.readouterr().out.splitlines()
    [without] = [line for line in lines if line.startswith("without  ")]
    [watched] = [line for line in lines if line.startswith("with  ")]
    bar = re.search(r"(=+)(h+)=*(!)(#+)(\.+)\|  0\.49 s to spare", watched)
    assert bar is not None
    deadline = without.index("X")
    assert watched.index("|") == deadline
    second = (deadline - bar.start()) / TIMEOUT
    assert len(bar[1]) == pytest.approx(2.25 * second, abs=2)
    assert len(bar[4]) == pytest.approx(0.24 * second, abs=2)
    assert len(bar[5]) == pytest.approx(0.49 * second, abs=2)
    assert max(map(len, lines)) < 100
    assert not any("\x1b" in line for line in lines)
