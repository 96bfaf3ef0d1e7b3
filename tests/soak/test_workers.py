"""Tests of timeouts in several workers, in the short form, and that a wrong answer is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("style", ["processes", "instances"])
def test_every_event_gets_its_own_answer(style: str) -> None:
    """With two workers every event has its own answer, and every timeout its line."""
    done = run("workers", "--timeouts=40", "--workers=2", f"--style={style}")

    assert done.returncode == 0, done.stdout
    assert " 0 violations" in done.stdout


def test_duplicate_record_is_detected(tmp_path: Path) -> None:
    """A second record of one timeout is found."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from watchdog_lambda import _report\n"
        "write = _report.write\n"
        "def twice(*given, **named):\n"
        "    write(*given, **named)\n"
        "    write(*given, **named)\n"
        "_report.write = twice\n"
    )

    done = run(
        "workers",
        "--timeouts=5",
        "--workers=1",
        "--style=processes",
        DEFECTS=str(tmp_path),
    )

    assert done.returncode == 1, done.stdout
    assert "VIOLATION: processes: more than one line" in done.stdout
