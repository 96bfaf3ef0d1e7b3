"""Loops that an interrupt can land wrongly in, timed out for real: nothing is left behind.

In numbers: ``python3 dev.py landing``.
"""

from __future__ import annotations

import pytest

from tools.landing import strike
from tools.landing_loops import ASYNC_LOOPS, LOOPS

pytestmark = pytest.mark.alone  # what is late lands beyond the hard deadline, wherever it must

ROUNDS = 3
SECONDS = 0.06


@pytest.mark.untraced
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a coroutine that was cut before it began
@pytest.mark.parametrize("name", [*LOOPS, *ASYNC_LOOPS])
def test_whatever_the_loop_was_doing_it_leaves_nothing_behind(name: str) -> None:
    """A timeout of 60 ms has the shortest of patiences."""
    verdicts = [strike(name, SECONDS) for _ in range(ROUNDS)]

    assert [verdict for verdict, was_cut in verdicts if verdict and not was_cut] == []
