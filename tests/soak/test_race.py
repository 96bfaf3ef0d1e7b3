"""Tests of the race against the supervisor's decision, in its short form, and of its mutants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from . import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak

_POST: Final = "result(client, invoke_id, result_data, content_type, invocation_id)"
MUTANTS: Final = {
    "no second look": (
        "watchdog_lambda._lambda.supervisor",
        "again = self._state.look()",
        "again = seen",
    ),
    "stored after the post": (
        "watchdog_lambda._lambda.runtime_client",
        f"memory[STATE] = ANSWERING\n            return {_POST}",
        f"answer = {_POST}\n            memory[STATE] = ANSWERING\n            return answer",
    ),
}
"""By name: the module, the lines that are replaced, and their replacement."""


def test_every_event_gets_exactly_its_own_answer() -> None:
    """Every event has one answer, its own, however close to the decision its handler ends."""
    done = run("race", "--count=200")

    assert done.returncode == 0, done.stdout
    assert " 0 violations" in done.stdout


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_detected(mutant: str, tmp_path: Path) -> None:
    """Each of the two mutants, which send two answers, is found."""
    module, before, after = MUTANTS[mutant]
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    assert source.count(before) == 1
    changed = (module, str(path), source.replace(before, after))
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tools.changed import Finder\n"
        f"sys.meta_path.insert(0, Finder(*{changed!r}))\n"
    )

    done = run("race", "--count=2000", DEFECTS=str(tmp_path))

    assert done.returncode == 1, done.stdout
    assert re.search(r" [1-9]\d* violations", done.stdout)
