"""Timeouts leave nothing behind, in the short form of the run, and a leak is found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from . import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak


def test_timeouts_cause_no_growth() -> None:
    """Memory, descriptors, threads and objects do not grow with timeouts.

    There are some hundreds of timeouts, of every kind.
    """
    done = run("flat", "--timeouts=1000", "--samples=10")

    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("\nFLAT\n")


def test_leak_is_detected(tmp_path: Path) -> None:
    """A leak is found: here the exceptions are kept."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from watchdog_lambda import LambdaTimeout\n"
        "kept, begin = [], LambdaTimeout.__init__\n"
        "def keep(self, *given, **named):\n"
        "    begin(self, *given, **named)\n"
        "    kept.append(self)\n"
        "LambdaTimeout.__init__ = keep\n"
    )

    done = run("flat", "--timeouts=500", "--samples=10", PYTHONPATH=str(tmp_path))

    assert done.returncode == 1, done.stdout
    assert re.search(r"^LambdaTimeout objects .* GROWS$", done.stdout, re.MULTILINE)
