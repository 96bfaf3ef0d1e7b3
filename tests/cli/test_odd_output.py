"""A handler's names, output and answers cannot control the terminal on which they are shown."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
import unicodedata

import pytest

from .support import BOUND, COMMAND, HANDLERS, environ, run

STEERS = "\x1b]0;title\x07\x1b[2J\x9b2J\x85\u2028"
"""The handler's text, repeated here because importing the handler would register its hook."""

BUILT_IN = ("--timeout", "2", "--emulator", "none")


def control_characters(text: str) -> list[str]:
    """Return the characters that a terminal, or code that splits lines, would interpret."""
    return [c for c in text if c not in "\n\t" and unicodedata.category(c) in {"Cc", "Zl", "Zp"}]


@pytest.mark.parametrize("do", ["sleep", "raise"])
def test_invoke_output_has_no_control_characters(do: str) -> None:
    """Log, timeline and answer have no control characters.

    The answer is the same JSON for every reader.
    """
    done = run("invoke", "odd.handler", "--event", json.dumps({"do": do}), *BUILT_IN)

    assert control_characters(done.stdout) == []
    assert control_characters(done.stderr) == []
    answer = json.loads(done.stdout)
    if do == "sleep":
        assert answer == {STEERS: [STEERS]}
        assert "hook?" in done.stderr
    else:
        assert answer["errorMessage"] == STEERS
    assert "said ?" in done.stderr


def test_coloured_output_has_only_its_own_escapes() -> None:
    """With colours the only escapes are those of the colours, and none is the handler's."""
    shown = on_a_terminal("invoke", "odd.handler", "--event", '{"do": "sleep"}', *BUILT_IN)

    assert "\x1b[" in shown  # these are the colours: the output looks like a terminal's
    for part in ("\x1b]0;", "\x07", "\x1b[2J", "\x9b", "\x85", "\u2028"):
        assert part not in shown, ascii(part)
    assert "\\u001b]0;title" in shown


def test_check_output_has_no_control_characters() -> None:
    """`check` shows the names of hooks and the settings without control characters."""
    done = run("check", "odd.handler", "--timeout", "30", WATCHDOG_LAMBDA_HANDLR=STEERS)

    assert control_characters(done.stdout + done.stderr) == []
    assert "hook?" in done.stdout


def on_a_terminal(*arguments: str) -> str:
    """Return what the command writes to a terminal on both streams."""
    controller, terminal = pty.openpty()
    read: list[bytes] = []

    def take() -> None:
        while True:
            try:
                data = os.read(controller, 4096)
            except OSError:
                return  # the last process that had it open has ended
            read.append(data)

    reader = threading.Thread(target=take)
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=HANDLERS,
        env=environ({"TERM": "xterm-256color"}),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    reader.start()
    process.wait(BOUND)
    reader.join(BOUND)
    os.close(controller)
    return b"".join(read).decode()
