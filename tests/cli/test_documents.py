"""The reference agrees with the command; tests/project/test_docs.py has the README's session."""

from __future__ import annotations

import re
from pathlib import Path

from watchdog_lambda.cli.arguments import parser
from watchdog_lambda.cli.outcome import EXIT_STATUS

from .support import document, run

ROOT = Path(__file__).parents[2]


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_every_option_is_in_the_reference() -> None:
    """Every option is in the reference, in its command's section."""
    page = text("docs", "reference", "command.md")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))

    for command in ("invoke", "check"):
        listed = set(re.findall(r"--[a-z-]+", sections[command]))
        options = set(re.findall(r"--[a-z-]+", _usage(command))) - {"--help"}
        assert options <= listed, command


def _usage(command: str) -> str:
    [commands] = [a for a in parser()._actions if a.dest == "command"]
    choices = commands.choices
    assert isinstance(choices, dict)
    usage: str = choices[command].format_usage()
    return usage


def test_every_exit_status_and_key_is_in_the_reference() -> None:
    """Every exit status and key of both documents is in the reference.

    This includes the keys of one invocation.
    """
    page = text("docs", "reference", "command.md")
    for outcome, status in EXIT_STATUS.items():
        assert f"| {status} | `{outcome}` |" in page

    invoked = document(
        run("invoke", "scenes.handler", "--event", '{"do": "ok"}', "--emulator", "none", "--json")
    )
    checked = document(run("check", "scenes.handler", "--json"))
    rows = " ".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    for key in (*invoked, *invoked["invocations"][0], *checked):
        assert f"`{key}`" in rows
