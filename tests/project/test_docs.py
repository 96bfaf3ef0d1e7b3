"""The documentation agrees with the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.project.commands import COMMANDS
from tests.support import Context
from tools import follow
from tools.documents import blocks, commands
from watchdog_lambda import _hooks, pytest_plugin, testing
from watchdog_lambda._config import SETTINGS

ROOT = Path(__file__).parents[2]
FOREIGN = ("PYTEST_", "WATCHDOG_", "COV_")
"""The prefixes of variables that are for these tests only."""


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    """Every setting has a row with its default in the reference, in the contract's order.

    No row is of anything else.
    """
    page = text("docs/reference/settings.md")
    rows = dict(re.findall(r"^\| `WATCHDOG_LAMBDA_([A-Z_]+)` \| (.*?) \|", page, re.MULTILINE))

    assert {name.lower() for name in rows} == set(SETTINGS)
    for name, setting in SETTINGS.items():
        if isinstance(setting.default, str | float) and not isinstance(setting.default, bool):
            assert rows[name.upper()] == f"`{setting.default}`"


@pytest.mark.parametrize(("record", "section"), [("timeout", ""), ("crash", "## A crash\n")])
def test_every_key_of_the_record_is_in_the_reference(record: str, section: str) -> None:
    """The reference lists every key of the record's schema.

    Each test's records are checked against the schema.
    """
    schema = json.loads(text("docs/reference/log-record.schema.json"))
    page = text("docs/reference/log-record.md")
    part = page[page.index(section) :].removeprefix(section).split("\n## ")[0]
    columns = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)

    listed = re.findall(r"`(\w+)`", "".join(columns))

    assert set(listed) == set(schema["$defs"][record]["properties"])


def test_readme_snippet_runs() -> None:
    """The README's Python snippet runs, and its handler can be called."""
    [snippet] = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    namespace: dict[str, Any] = {}

    try:
        exec(compile(snippet, "README.md", "exec"), namespace)  # noqa: S102
        answer = namespace["handler"]({"order": 7}, Context(5.0))
    finally:
        for hook in _hooks.shared.snapshot():
            _hooks.shared.remove(hook.key)

    assert answer == {"statusCode": 200}


@pytest.mark.parametrize("page", [page for page in follow.pages() if follow.steps(page)])
def test_page_steps_produce_the_documented_output(page: str, tmp_path: Path) -> None:
    """The steps that a page asks its reader to take work, and show what the page shows.

    Here they run in this environment; `dev.py follow` runs them in a fresh one.
    """
    if follow.needs_examples(page):
        shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    reader = follow.Reader(tmp_path, environment, may_install=False)

    assert reader.follow(follow.steps(page)) > 0


@pytest.mark.parametrize("page", [*follow.pages(), "CONTRIBUTING.md"])
def test_every_code_block_is_run_or_has_a_reason(page: str) -> None:
    """Each block of code is a step, an existing command of this checkout's, or has a reason.

    The reason says why the block is not run.
    """
    followed = follow.steps(page)
    for block in blocks(ROOT / page, page):
        if block.language not in {"python", "console"} or block.unrun or block in followed:
            continue
        names = [command.text.split()[2] for command in commands(block)]
        assert {*names} <= {*COMMANDS, "--list"}, block


def test_code_blocks_use_one_name_per_language() -> None:
    """A block that is to be run has the one name for its language, Python or the terminal's."""
    pages = [*follow.pages(), "CONTRIBUTING.md"]
    languages = {block.language for page in pages for block in blocks(ROOT / page, page)}

    assert not languages & {"py", "python3", "pycon", "bash", "shell", "shell-session", "session"}


def test_testing_reference_is_complete() -> None:
    """The reference of the testing module has a row for each public name and each fixture.

    It has no other rows.
    """
    rows = re.findall(r"^\| `(\w+)", text("docs/reference/testing.md"), re.MULTILINE)
    fixtures = [name for name in vars(pytest_plugin) if name.startswith("watchdog_")]

    assert sorted(rows) == sorted([*testing.__all__, *fixtures])


def test_example_tests_pass() -> None:
    """The examples' own tests pass in the way that their README gives.

    It runs pytest in the example's folder.
    """
    folder = ROOT / "examples" / "hooks_and_fallback"

    done = run_pytest(folder)

    assert re.search(r"^=+ 5 passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, in a process of its own."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "."],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "page", [p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md")]
)
def test_relative_links_have_existing_targets(page: str) -> None:
    """The pages and files that relative links name exist."""
    for document in (page, "README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(document)):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"
