"""The switch interval: the program's own is remembered, and restored after a timeout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from watchdog_lambda._cpython.pace import QUICK, Pace

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = 0.02


@pytest.fixture(autouse=True)
def own_interval() -> Iterator[None]:
    """Give the program an interval of its own."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(OWN)
    yield
    sys.setswitchinterval(before)


def test_interval_set_during_timeout_is_kept() -> None:
    """An interval that the program sets during a timeout is kept, because it is newer."""
    pace = Pace()

    pace.quicken()
    sys.setswitchinterval(0.003)
    pace.relax()

    assert sys.getswitchinterval() == 0.003


def test_shorter_own_interval_is_kept() -> None:
    """An interval of the program that is shorter than ours is kept."""
    sys.setswitchinterval(QUICK / 2)
    pace = Pace()

    pace.quicken()
    assert sys.getswitchinterval() == QUICK / 2
    pace.relax()

    assert sys.getswitchinterval() == QUICK / 2


def test_quicken_and_relax_are_idempotent() -> None:
    """Calling ``quicken`` or ``relax`` twice has the effect of one call.

    The program's interval is remembered, not the short one.
    """
    pace = Pace()

    pace.quicken()
    pace.quicken()
    assert sys.getswitchinterval() == QUICK
    pace.relax()
    pace.relax()

    assert sys.getswitchinterval() == OWN


def test_each_timeout_remembers_the_current_interval() -> None:
    """A second timeout remembers the program's interval at that time."""
    pace = Pace()
    pace.quicken()
    pace.relax()
    sys.setswitchinterval(OWN / 2)

    pace.quicken()
    assert sys.getswitchinterval() == QUICK
    pace.relax()

    assert sys.getswitchinterval() == OWN / 2
