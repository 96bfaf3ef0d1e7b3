"""Exceptions from coverage and mutation tests have a reason, and modules a limited length."""

from __future__ import annotations

import re
import tokenize
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EXPLAINED = re.compile(r"# pragma: no (cover|branch) - \w+")


def pragmas(file: Path) -> Iterator[str]:
    with tokenize.open(file) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.COMMENT and "pragma" in token.string:
                yield f"{file.relative_to(ROOT)}:{token.start[0]}: {token.string}"


def test_every_coverage_pragma_has_a_reason() -> None:
    """Each line that coverage leaves out has a reason: ``# pragma: no cover - why``."""
    found = [p for file in ROOT.glob("watchdog_lambda/**/*.py") for p in pragmas(file)]

    assert [pragma for pragma in found if not EXPLAINED.search(pragma)] == []


@pytest.mark.parametrize(
    ("comment", "holds"),
    [
        ("# pragma: no cover - a trace function is not traced", True),
        ("# pragma: no branch - it never ends", True),
        ("# pragma: no cover", False),
        ("# pragma: no cover -", False),
        ("# pragma: nocover - typing mistake", False),
    ],
)
def test_pragma_without_reason_is_detected(comment: str, *, holds: bool) -> None:
    """The check finds a pragma without a reason."""
    assert bool(EXPLAINED.search(comment)) is holds


def test_no_module_has_more_than_250_lines() -> None:
    """No module has more than 250 lines; a longer one would have two reasons to change."""
    files = ROOT.glob("watchdog_lambda/**/*.py")
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}

    assert {name: length for name, length in lengths.items() if length > 250} == {}


def test_every_surviving_mutant_has_a_reason() -> None:
    """Every surviving mutant is listed once with a reason, and is of a function that exists."""
    text = (ROOT / "tests" / "mutation-survivors.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text).get("survivor", [])
    keys = [(e["module"], e["in"], e["was"], e["becomes"]) for e in entries]

    assert [entry for entry in entries if len(entry["why"].split()) < 3] == []
    assert len(keys) == len(set(keys))
    for entry in entries:
        source = (ROOT / "watchdog_lambda" / f"{entry['module'].replace('.', '/')}.py").read_text(
            encoding="utf-8"
        )
        assert entry["in"].rpartition(".")[2] in source
