"""The documents say what the code does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import Context
from watchdog_lambda import _api, pytest_plugin, testing
from watchdog_lambda._config import DEFAULTS, PARSERS

ROOT = Path(__file__).parent.parent


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    """A table row each, in the order of the contract, and no row without a setting."""
    rows = dict(
        re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", text("docs/reference/settings.md"), re.MULTILINE)
    )

    assert {name.lower() for name in rows} == set(PARSERS)
    for name, default in DEFAULTS.items():
        if isinstance(default, str | float) and not isinstance(default, bool):
            assert rows[name.upper()] == f"`{default}`"


def test_every_key_of_the_record_is_in_the_reference() -> None:
    """The page lists what its schema has, which every test holds the records to."""
    schema = json.loads(text("docs/reference/log-record.schema.json"))
    columns = re.findall(r"^\| (`.*?) \|", text("docs/reference/log-record.md"), re.MULTILINE)

    listed = re.findall(r"`(\w+)`", "".join(columns))

    assert set(listed) == set(schema["$defs"]["timeout"]["properties"])


def test_the_readmes_code_runs() -> None:
    """The Python snippet, executed and called."""
    [snippet] = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    namespace: dict[str, Any] = {}

    try:
        exec(compile(snippet, "README.md", "exec"), namespace)  # noqa: S102
        answer = namespace["handler"]({"order": 7}, Context(5.0))
    finally:
        for hook in _api._hooks.snapshot():
            _api._hooks.remove(hook.key)

    assert answer == {"statusCode": 200}


def test_the_how_to_on_tests_runs(tmp_path: Path) -> None:
    """Each snippet says which file it belongs to; pytest runs them, as a user's would."""
    snippets = re.findall(
        r"^```python\n(.*?)^```", text("docs/how-to/test-your-handler.md"), re.DOTALL | re.MULTILINE
    )
    files: dict[str, str] = {}
    for snippet in snippets:
        first, _, code = snippet.partition("\n")
        name = first.removeprefix("# ")
        assert re.fullmatch(r"(test_)?\w+\.py", name), first
        files[name] = files.get(name, "") + code
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    done = run_pytest(tmp_path)

    tests = sum(len(re.findall(r"^ *def test_", code, re.MULTILINE)) for code in files.values())
    assert f"{tests} passed" in done.stdout, done.stdout
    assert done.returncode == 0


def test_the_reference_of_testing_is_complete() -> None:
    """Each public name and each fixture has its row, and no row is of something else."""
    rows = re.findall(r"^\| `(\w+)", text("docs/reference/testing.md"), re.MULTILINE)
    fixtures = [name for name in vars(pytest_plugin) if name.startswith("watchdog_")]

    assert sorted(rows) == sorted([*testing.__all__, *fixtures])


def test_the_examples_own_tests_pass() -> None:
    """As their README says: pytest, in the example's folder."""
    folder = ROOT / "examples" / "hooks_and_fallback"

    done = run_pytest(folder)

    assert re.search(r"^=+ 5 passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    """pytest in a folder, by somebody else."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "WATCHDOG_"))}
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
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """Relative links only; the pages and files they name exist."""
    for document in (page, "README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(document)):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"
