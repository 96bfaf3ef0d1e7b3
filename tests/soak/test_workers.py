"""Timeouts at several workers, in the short form, and that a wrong answer is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.soak

ROOT: Final = Path(__file__).resolve().parents[2]


def workers(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "workers.py"), *options],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("style", ["processes", "instances"])
def test_every_event_has_its_own_answer(style: str) -> None:
    """And every timeout its line, at two workers."""
    done = workers("--timeouts=40", "--workers=2", f"--style={style}")

    assert done.returncode == 0, done.stdout
    assert " 0 violations" in done.stdout


def test_a_record_too_many_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each timeout means one."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from watchdog_lambda import _report\n"
        "write = _report.write\n"
        "def twice(*given, **named):\n"
        "    write(*given, **named)\n"
        "    write(*given, **named)\n"
        "_report.write = twice\n"
    )
    monkeypatch.setenv("WORKERS_PYTHONPATH", str(tmp_path))

    done = workers("--timeouts=5", "--workers=1", "--style=processes")

    assert done.returncode == 1, done.stdout
    assert "VIOLATION: processes: more than one line" in done.stdout
