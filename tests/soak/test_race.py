"""The race against the supervisor's decision, in the short form, and that it finds its mutants."""

from __future__ import annotations

import pytest

from tools.race_cell import MUTANTS

from . import run

pytestmark = pytest.mark.soak


def test_every_event_has_one_answer_and_its_own() -> None:
    """However close to the decision its handler ends."""
    done = run("race", "--count=200")

    assert done.returncode == 0, done.stdout
    assert " 0 violations" in done.stdout


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_found(mutant: str) -> None:
    """Each of the two without which two would answer."""
    done = run("race", "--count=2000", f"--mutant={mutant}")

    assert done.returncode == 0, done.stdout
    assert "was found" in done.stdout
