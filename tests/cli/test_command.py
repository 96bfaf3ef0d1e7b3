"""Tests of the command's help, streams, colours and Ctrl-C, and of ``run``'s imports."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from watchdog_lambda.cli import import_from_here
from watchdog_lambda.cli.view import spoken

from .support import BOUND, COMMAND, HANDLERS, emulator, environ, finish, is_running, run, start

if TYPE_CHECKING:
    from pathlib import Path

OK = '{"do": "ok"}'
ESCAPE = "\x1b"
TIMED_OUT = ("invoke", "scenes.handler", "--event", '{"do": "sleep"}', "--timeout", "0.6")
BUILTIN = ("--emulator", "none")


# ---- what it says of itself -------------------------------------------------------------------


@pytest.mark.parametrize("command", [(), ("invoke",), ("check",), ("run",)])
def test_help_has_examples_and_exit_status(command: tuple[str, ...]) -> None:
    """The help of each subcommand has examples, and the meaning of the exit status."""
    done = run(*command, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(" ".join(("usage: watchdog-lambda", *command)))
    assert "app.handler" in done.stdout
    if command:
        assert re.search("exit (status|codes)", done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_module_runs_as_the_command() -> None:
    """The module can be run as the command, where no script is on PATH."""
    module = [sys.executable, "-m", "watchdog_lambda.cli", "--version"]
    done = subprocess.run(module, capture_output=True, text=True, check=True, timeout=BOUND)

    assert re.fullmatch(r"watchdog-lambda \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shell_completion_includes_options(shell: str) -> None:
    """The completion script for the shell knows the options."""
    done = run("--print-completion", shell)

    assert done.returncode == 0
    assert "--emulator" in done.stdout
    assert "--strict" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "COMMAND"),
        (("invoke", "scenes.handler", "--timeout", "0"), "use for example 3 or 0.5"),
        (("invoke", "scenes.handler", "--event", "{"), "neither JSON"),
        (("invoke",), "no handler to wrap; name yours on the command line"),
        (("invoke", "watchdog_lambda.watch"), "names watchdog_lambda itself"),
        (("invoke", "a.b", "--env", "WATCHDOG_LAMBDA_INTERRUPT=x"), "INTERRUPT='x'"),
        (("invoke", "a.b", "--emulator", "/no/where"), "--emulator=/no/where: not an executable"),
        (("invoke", "a.b", "--time", "3"), "unrecognized arguments"),
        (("invoke", "a.b", "--emulator", "/bin/false"), "/bin/false did not start; use another"),
        (("run", "a.b", "c.d"), "one handler at most"),
        (("run", "a.b"), "AWS_LAMBDA_RUNTIME_API is not set"),
    ],
)
def test_wrong_usage_gives_message_and_exit_status_2(
    arguments: tuple[str, ...], message: str
) -> None:
    """Wrong usage gives a message on standard error and exit status 2, without a traceback."""
    done = run(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# ---- what it shows ----------------------------------------------------------------------------


def test_standard_output_has_only_the_answer() -> None:
    """Standard output has only the answer, for a pipe.

    The handler's output and the timeline are on standard error.
    """
    done = run("invoke", "scenes.handler", "--event", OK, "--emulator", "none")

    assert done.returncode == 0
    assert json.loads(done.stdout)["text"] == "grün"
    assert "grün" in done.stdout
    assert "built-in Runtime API" in done.stderr
    assert re.search(r"^   init  imported$", done.stderr, re.MULTILINE)
    assert re.search(r"^   0\.\d\d  call 1$", done.stderr, re.MULTILINE)
    assert re.search(r"^running +=", done.stderr, re.MULTILINE)
    assert re.search(r"^answered after \d+ ms", done.stderr, re.MULTILINE)
    assert ESCAPE not in done.stdout + done.stderr


def test_timeout_is_shown_with_phases_drawn_to_scale() -> None:
    """A timeout is shown as one line for the record, with the phases drawn to scale."""
    done = run(
        *("invoke", "scenes.handler", "--event", '{"do": "answer"}', "--timeout", "1.6"),
        *("--env", "HOOK=1", "--emulator", "none"),
    )

    assert done.returncode == 3
    assert json.loads(done.stdout) == {"statusCode": 504}
    assert re.search(r"watchdog\.timeout in scenes\.py:\d+ \(answer\): returned", done.stderr)
    rows = dict(re.findall(r"^(\w+) +([=h!#s.X]+) ", done.stderr, re.MULTILINE))
    rows.pop("settle", None)  # it may take less than a millisecond
    assert list(rows) == ["running", "hook", "interrupt", "cleanup", "left"]
    assert len(rows["running"]) > 20 * len(rows["interrupt"])
    assert "timed out and caught: the caller has an answer" in done.stderr


def test_lines_are_shown_as_they_are_written() -> None:
    """Lines are shown when they are written: the first appears while the handler sleeps."""
    process = start(
        *("invoke", "scenes.handler", "--event", '{"do": "sleep"}', "--timeout", "20"),
        *("--emulator", "none"),
    )
    assert process.stderr is not None
    began = time.monotonic()
    for line in process.stderr:
        if "call 1" in line:
            break
    assert time.monotonic() - began < 10
    process.send_signal(signal.SIGINT)
    finish(process)


def test_shell_variables_are_passed_on_except_the_handler() -> None:
    """Variables of the shell are passed on, except WATCHDOG_LAMBDA_HANDLER.

    The call names another handler.
    """
    words = ("--event", OK, "--emulator", "none")
    shell = {"WATCHDOG_LAMBDA_HANDLER": "scenes.handler", "VARIABLE": "of the shell"}

    named = run("invoke", "nowhere.handler", *words, **shell)
    unnamed = run("invoke", *words, **shell)

    assert named.returncode == 1
    assert "No module named 'nowhere'" in named.stdout
    assert json.loads(unnamed.stdout)["variable"] == "of the shell"


def test_env_option_takes_precedence_over_env_file(tmp_path: Path) -> None:
    """Variables can be given by a file or one by one, and a single one precedes the file's."""
    (tmp_path / "env").write_text("VARIABLE=of the file\n")
    words = ["invoke", "scenes.handler", "--event", OK, "--emulator", "none"]
    words += ["--env-file", str(tmp_path / "env")]

    assert json.loads(run(*words).stdout)["variable"] == "of the file"
    assert json.loads(run(*words, "--env", "VARIABLE=own").stdout)["variable"] == "own"


def test_each_event_is_one_invocation() -> None:
    """Several events are one invocation each, in one process, as often as asked for."""
    words = ["invoke", "scenes.handler", *BUILTIN, "--repeat", "2", "--json"]
    for do in ("ok", "fail"):
        words += ["--event", json.dumps({"do": do})]
    done = run(*words)

    found = json.loads(done.stdout)["invocations"]
    assert done.returncode == 1
    assert [each["outcome"] for each in found] == ["answered", "failed"] * 2
    assert found[2]["response"]["calls"] == 3
    assert [each["init_seconds"] is not None for each in found] == [True, False, False, False]


def in_terminal(*arguments: str, prelude: str = "pass", **more: str) -> str:
    """Return what a terminal shows with standard output and error on it."""
    program = f"import sys; {prelude}; from watchdog_lambda.cli import main; sys.exit(main())"
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=HANDLERS,
        env=environ({"TERM": "xterm-256color", **more}),
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    until = time.monotonic() + BOUND
    while select.select([leader], [], [], until - time.monotonic())[0]:
        try:
            data = os.read(leader, 65536)
        except OSError:  # this is how Linux reports the terminal's end
            break
        shown += data
    os.close(leader)
    process.wait(BOUND)
    return shown.decode()


def test_terminal_output_has_colours_and_progress_bar() -> None:
    """With rich a terminal has colours and a bar.

    The bar is removed at the end, and no text is missing.
    """
    shown = in_terminal(*TIMED_OUT, *BUILTIN)

    assert ESCAPE in shown
    assert " of 0.6 s" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    for word in ("call 1", "cleanup done", "errorType", "interrupt ", "to spare", "caught"):
        assert word in plain


@pytest.mark.parametrize(
    ("prelude", "more"),
    [
        ("pass", {"NO_COLOR": "1"}),
        ("pass", {"TERM": "dumb"}),
        ("sys.modules['rich'] = None", {}),
    ],
)
def test_text_is_the_same_without_colours(prelude: str, more: dict[str, str]) -> None:
    """With NO_COLOR, on a dumb terminal or without rich the same text is plain.

    No cursor is moved.
    """
    shown = in_terminal(*TIMED_OUT, *BUILTIN, prelude=prelude, **more)

    assert ESCAPE not in shown
    for word in ("call 1", "cleanup done", "errorType", "interrupt ", "to spare", "caught"):
        assert word in shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"level": "INFO", "message": "saved", "service": "x"}', "INFO saved"),
        ('{"message": "saved"}', "saved"),
        ('{"message": {"pages": 7}}', '{"message": {"pages": 7}}'),
        ('{"level": "INFO"', '{"level": "INFO"'),
        ("[INFO] saved", "[INFO] saved"),
    ],
)
def test_structured_log_line_is_shown_as_level_and_message(line: str, shown: str) -> None:
    """A structured log line is shown by its level and message, and any other line unchanged."""
    assert spoken(line) == shown


def test_control_characters_in_handler_output_are_escaped() -> None:
    """Control characters in the handler's output do not reach the terminal."""
    done = run("invoke", "scenes.handler", "--event", '{"do": "speak"}', *BUILTIN)

    assert done.returncode == 0
    assert "\r" not in done.stderr
    assert re.search(r"  a\tb\n {9}c\n", done.stderr)
    assert "?[2Jcleared" in done.stderr
    assert ESCAPE not in done.stderr


# ---- its end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("host", ["none", "emulator"])
def test_ctrl_c_leaves_nothing_running(host: str, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM leave nothing running, even a handler's child in a session of its own."""
    process = start(
        *("invoke", "scenes.handler", "--event", '{"do": "spawn"}', "--timeout", "30"),
        *("--emulator", emulator() if host == "emulator" else host),
    )
    assert process.stderr is not None
    pids = []
    for line in process.stderr:
        if found := re.search(r"(child|parent) (\d+)", line):
            pids.append(int(found[2]))
        if len(pids) == 2:
            break
    assert all(map(is_running, pids))
    process.send_signal(number)
    done = finish(process)

    assert done.returncode == 130
    assert "nothing is left running" in done.stderr
    assert not any(map(is_running, pids))


def test_closed_standard_output_ends_the_command_cleanly() -> None:
    """If the reader of standard output ends, there is no traceback and nothing is left running.

    An example is ``| head -1``.
    """
    process = start("invoke", "scenes.handler", "--event", OK, *BUILTIN, "--repeat", "2")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    done = finish(process)

    assert done.returncode == 141
    assert "Traceback" not in done.stderr


def test_kill_ends_child_processes_of_the_handler(tmp_path: Path) -> None:
    """A kill ends the handler's children, as the end of a sandbox does.

    The next invocation finds none of them.
    """
    words = ["invoke", "scenes.handler", "--timeout", "0.4", "--unwatched", *BUILTIN, "--json"]
    for do in ("spawn", "look_for_child"):
        words += ["--event", json.dumps({"do": do, "file": str(tmp_path / "pid")})]
    done = run(*words)

    assert done.returncode == 4
    killed, next_one = json.loads(done.stdout)["invocations"]
    assert killed["outcome"] == "killed"
    assert next_one["response"] is False


# ---- run --------------------------------------------------------------------------------------


THIN = """
import sys
from watchdog_lambda.cli import main
assert main(["run", "app.handler"]) == 2
cli = sorted(m for m in sys.modules if m.startswith("watchdog_lambda.cli."))
assert not cli, cli
for heavy in ("argparse", "dataclasses", "pathlib", "rich", "shtab", "http", "subprocess",
              "typing", "inspect", "contextlib"):
    assert heavy not in sys.modules, heavy
"""


def test_run_imports_nothing_of_other_subcommands() -> None:
    """`run`, which a container starts, imports no parser, no dataclasses and no rich."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", THIN],
        capture_output=True,
        text=True,
        check=False,
        cwd=HANDLERS.parents[2],
        env=environ(),
        timeout=BOUND,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("where", ["working directory", "task root"])
def test_run_finds_the_handler_module(where: str, tmp_path: Path) -> None:
    """`run` finds the handler's module, although a script has its own folder on the path.

    The folder is replaced by what Lambda has there.
    """
    from tests.runtime.emulator import Emulator  # noqa: PLC0415 - for this one only

    (tmp_path / "here.py").write_text(
        "import sys\ndef handler(event, context): return sys.path\n", encoding="utf-8"
    )
    in_root = where == "task root"
    function = Emulator(
        [*COMMAND, "run", "here.handler"],
        cwd=HANDLERS if in_root else tmp_path,
        environment={"LAMBDA_TASK_ROOT": str(tmp_path)} if in_root else {},
        timeout=5,
    )
    with function:
        path = function.invoke({}).json()

    assert isinstance(path, list)
    assert path[0] == str(tmp_path)
    assert COMMAND[0].rpartition("/")[0] not in path


def test_working_directory_replaces_script_folder_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only a script's folder is replaced by the working directory, once.

    Any other first entry of the path is kept.
    """
    script = tmp_path / "bin" / "watchdog-lambda"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script)])

    monkeypatch.setattr(sys, "path", [str(script.parent), "/x"])
    import_from_here()
    assert sys.path == [str(tmp_path), "/x"]
    import_from_here()
    assert sys.path == [str(tmp_path), "/x"]
    monkeypatch.setattr(sys, "path", ["/x"])
    import_from_here()
    assert sys.path == [str(tmp_path), "/x"]
