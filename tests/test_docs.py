"""The documents say what the code does."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import watchdog_lambda
from benchmarks.limits import docs as limits
from tests.support import Context
from watchdog_lambda import _api, batch, pytest_plugin, testing, typing
from watchdog_lambda._config import DEFAULTS, INTERRUPTS, LAST_RESORTS, PARSERS

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


def test_the_landing_pages_code_runs() -> None:
    """The handler answers, and its fallback does when its time is up."""
    [snippet] = re.findall(r"```python\n(.*?)```", text("docs/index.md"), re.DOTALL)
    in_time: dict[str, Any] = {}
    late: dict[str, Any] = {"expire": testing.expire}
    exec(compile(snippet, "index.md", "exec"), in_time)  # noqa: S102
    slow = snippet.replace("    return", "    expire()\n    return")
    exec(compile(slow, "index.md", "exec"), late)  # noqa: S102

    assert in_time["handler"]({}, testing.FakeContext()) == {"statusCode": 200}
    assert late["handler"]({}, testing.FakeContext()) == {"statusCode": 504}


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


def test_the_comparison_has_the_figures_of_the_table_of_calls() -> None:
    """Those of docs/explanation/limits.json, as they are worded."""
    page = text("docs/explanation/comparison.md")
    rows = [list(cells.values()) for cells in limits.read().cells.values()]
    reached = {
        way: [
            [figure for row in cells if (figure := row[way].figure) is not None] for cells in rows
        ]
        for way in ("watchdog", "alarm", "injection")
    }
    counts = {way: [len(figures) for figures in ways] for way, ways in reached.items()}
    medians = {way: round(statistics.median(ways[0]), 1) for way, ways in reached.items()}
    loops = [cells["loop"] for cells in limits.read().cells.values()]
    ours = sorted(round(loop["watchdog"].figure or math.inf) for loop in loops)

    assert (
        f"Of {len(rows[0])} blocking calls it reaches {counts['alarm'][0]} on CPython 3.11, "
        f"we {counts['watchdog'][0]}; the median of its figures is {medians['alarm']} ms, "
        f"that of ours {medians['watchdog']} ms.\n"
    ) in page
    assert not list(limits.read().worse())
    assert counts["watchdog"][0] - counts["alarm"][0] == 12
    assert "The twelve between" in page
    first, *others = counts["injection"]
    assert set(others) == {others[0]}
    assert f"of the {len(rows[0])} calls {first} were reached on 3.11, {others[0]} on" in page
    assert f"after {ours[0]} to {ours[-1]} ms in a bare loop" in page
    assert all((loop["alarm"].figure or math.inf) < 1 for loop in loops)


def test_the_api_page_names_what_options_may_be() -> None:
    """Two aliases exist for type checkers only, and are written down on the page by hand."""
    page = text("docs/reference/api.md")

    for name, choices in (("InterruptKind", INTERRUPTS), ("LastResort", LAST_RESORTS)):
        listed = ", ".join(f'"{choice}"' for choice in choices)
        assert f".. py:type:: {name}\n   :canonical: Literal[{listed}]\n" in page


def test_the_api_page_has_every_public_name() -> None:
    """Of the package, and of its public modules; Powertools' own names are Powertools'."""
    page = text("docs/reference/api.md")
    documented = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (?:[\w.]+\.)?(\w+)", page, re.MULTILINE))
    processors = {
        name
        for name in batch.__all__
        if getattr(getattr(batch, name), "__module__", "") == batch.__name__
    }

    aliases = {"Json", "Fallback"}
    for names in (
        watchdog_lambda.__all__,
        testing.__all__,
        processors,
        set(typing.__all__) - aliases,
    ):
        assert set(names) <= documented


@pytest.mark.parametrize(
    "page", [p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md")]
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """Relative links only; the pages and files they name exist."""
    for document in (page, "README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(document)):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"
