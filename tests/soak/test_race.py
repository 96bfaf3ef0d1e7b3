"""The race against the supervisor's decision, in the short form, and that it finds its mutants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tools.race_cell import MUTANTS

pytestmark = pytest.mark.soak

ROOT: Final = Path(__file__).resolve().parents[2]


def race(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "race.py"), *options],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_every_event_has_one_answer_and_its_own() -> None:
    """However close to the decision its handler ends."""
    done = race("--count=200")

    assert done.returncode == 0, done.stdout
    assert " 0 violations" in done.stdout


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_found(mutant: str) -> None:
    """Each of the two without which two would answer."""
    done = race("--count=2000", f"--mutant={mutant}")

    assert done.returncode == 0, done.stdout
    assert "was found" in done.stdout
