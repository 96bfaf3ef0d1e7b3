"""README and reference say what the command does."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from watchdog_lambda.cli.arguments import parser
from watchdog_lambda.cli.outcome import EXIT_STATUS

from .support import BOUND, COMMAND, document, environ, run

ROOT = Path(__file__).parents[2]


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def essence(session: str) -> str:
    """A session without its numbers and lengths, and without the row that may take no time."""
    kept = [line for line in session.splitlines() if not line.startswith("settle ")]
    figures = re.sub(r"\d+(\.\d+)*( ms)?", "N", "\n".join(kept).replace(" ms", ""))
    figures = re.sub(r"([=!#.s-])\1+", r"\1", figures)
    return re.sub(r"[ |]+", " ", figures).strip()


def test_the_readmes_session_is_that_of_its_command() -> None:
    """Run, and compared but for the figures."""
    found = re.search(
        r"```console\n.*?\$ (watchdog-lambda invoke .*?)\n```.*?```\n(.*?)\n```",
        text("README.md"),
        re.DOTALL,
    )
    assert found is not None

    done = subprocess.run(
        [*COMMAND, *shlex.split(found[1])[1:], "--emulator", "none"],
        cwd=ROOT,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=BOUND,
    )

    assert done.returncode == 3
    assert essence(done.stdout) == essence(found[2])


def test_every_option_is_in_the_reference() -> None:
    """In the section of its command."""
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
    """Of both documents, and of one invocation in the first."""
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
