"""Timeouts leave nothing behind; in its short form, and that a leak is found."""

from __future__ import annotations

import re

import pytest

from . import run

pytestmark = pytest.mark.soak


def test_nothing_grows() -> None:
    """Memory, descriptors, threads and objects, over some hundreds of timeouts of every kind."""
    done = run("flat", "--timeouts=1000", "--samples=10")

    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("\nFLAT\n")


def test_a_leak_is_found() -> None:
    """One handler that keeps its exception is enough."""
    done = run("flat", "--timeouts=500", "--samples=10", "--leak")

    assert done.returncode == 1, done.stdout
    assert re.search(r"^LambdaTimeout objects .* GROWS$", done.stdout, re.MULTILINE)
