"""Samples of a handler's stack: when they are taken, and what is made of them, without a thread."""

from __future__ import annotations

import math
import sys
from _thread import get_ident
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import SilentReport, plan
from watchdog_lambda import ConfigurationError
from watchdog_lambda._config import Settings
from watchdog_lambda._cpython.source import PACKAGE, SourceMap
from watchdog_lambda._cpython.stacks import stack_of
from watchdog_lambda._engine import sampling as module
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.limits import Limit
from watchdog_lambda._engine.samples import MOST_LINES, Samples
from watchdog_lambda._engine.sampling import MOST_FRAMES, Sampling

START = float(1 << 30)
HERE = get_ident()
SOURCE = SourceMap(["/task"])
LIBRARY = "/usr/lib/python3/site-packages/psycopg/connection.py"
OWN = ("/task/app.py", 41, "load_rows")


@pytest.fixture
def sampling() -> Sampling:
    return Sampling(SilentReport())


def invocation(**settings: Any) -> Invocation:
    """Of a function of 16 s with a grace period of 4 s: looked at from 8 s to 12 s."""
    made = plan(**{"grace_period": 4.0, "samples": 4, **settings})
    return Invocation(made, None, None, START, 16.0, START + 8.0)


def taken(sampling: Sampling, one: Invocation) -> dict[str, Any]:
    samples = sampling.of(one)
    assert samples is not None
    return samples.summary(SOURCE)


# ---- when --------------------------------------------------------------------------------------


def test_samples_are_evenly_spaced_from_half_of_the_time_to_the_grace_period(
    sampling: Sampling,
) -> None:
    """Each look says when the next one is due; after the last there is none to come."""
    one = invocation()
    now, looked = START + 8.0, []

    while now < math.inf:
        looked.append(now - START)
        now = one.due = sampling.look(one, HERE, now)

    assert looked == [8.0, 9.0, 10.0, 11.0]
    told = taken(sampling, one)
    assert (told["samples"], told["from_ms"], told["to_ms"]) == (4, 8000, 11000)


@pytest.mark.parametrize("seconds", [0.3, 1.1, 29.97, 899.9])
def test_every_sample_is_taken_at_the_instant_that_was_asked_for(
    sampling: Sampling, seconds: float
) -> None:
    """Instants are rounded: the thread would look without end at a clock that stands still."""
    one = Invocation(plan(samples=20), None, None, START, seconds, START + seconds / 2)
    now = one.due

    for _ in range(20):
        now = one.due = sampling.look(one, HERE, now)

    assert now == math.inf
    assert taken(sampling, one)["samples"] == 20


def test_before_half_of_the_time_nothing_is_looked_at(sampling: Sampling) -> None:
    """Whatever has woken the thread."""
    one = invocation()

    assert sampling.look(one, HERE, START + 7.9) == one.due
    assert sampling.of(one) is None


def test_a_late_look_counts_for_those_that_it_missed(sampling: Sampling) -> None:
    """C code held the GIL, and has just returned to the line that called it."""
    one = invocation()

    assert sampling.look(one, HERE, START + 10.5) == START + 11.0
    assert taken(sampling, one)["samples"] == 3
    assert taken(sampling, one)["lines"][0]["share"] == 1.0


@pytest.mark.parametrize("why", ["settings", "ended", "fired", "block"])
def test_nothing_is_looked_at_where_nothing_is_to_be_told(sampling: Sampling, why: str) -> None:
    """No samples are wanted, the handler has ended, its cleanup runs, or it is a block's limit."""
    one = invocation(samples=0 if why == "settings" else 4)
    if why == "block":
        one = Limit(plan(samples=4), START, 16.0)
        one.due = START
    one.is_open = why != "ended"
    if why == "fired":
        one.firing = SimpleNamespace(fired_at=12.0)  # type: ignore[assignment]

    assert sampling.look(one, HERE, START + 9.0) == math.inf
    assert sampling.of(one) is None


def test_an_early_stage_does_not_end_it(sampling: Sampling) -> None:
    """Its firing has what is taken after it has been made, too."""
    one = invocation()
    firing: Any = SimpleNamespace(fired_at=None, samples=None)
    one.firing = firing
    one.due = START + 12.0

    assert sampling.look(one, HERE, START + 8.0) == START + 9.0
    assert firing.samples is sampling.of(one)


def test_samples_are_dropped_with_their_invocation(sampling: Sampling) -> None:
    """Or what it holds would be kept alive."""
    one, other = invocation(), invocation()
    for each in (one, other):
        sampling.look(each, HERE, START + 8.0)

    sampling.keep({other})

    assert sampling.of(one) is None
    assert sampling.of(other) is not None


def test_a_sample_that_fails_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is told, and the invocation is watched as before."""
    report = SilentReport()
    sampling, one = Sampling(report), invocation()
    defect = RuntimeError()

    def fail(*_given: object) -> None:
        raise defect

    monkeypatch.setattr(module, "stack_of", fail)

    assert sampling.look(one, HERE, START + 8.0) == math.inf
    assert sampling.look(one, HERE, START + 9.0) == math.inf
    assert report.failures == [defect]


def test_a_lack_of_memory_is_no_failure(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread lets go of some, and the sample is taken then."""
    one = invocation()

    def fail(*_given: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "stack_of", fail)
        with pytest.raises(MemoryError):
            sampling.look(one, HERE, START + 8.0)

    assert sampling.look(one, HERE, START + 8.0) == START + 9.0
    assert taken(sampling, one)["samples"] == 1


# ---- what --------------------------------------------------------------------------------------


def test_the_line_is_the_users_innermost_and_what_it_had_called() -> None:
    """What was met most often of several."""
    samples = Samples()
    for number, inner in enumerate((("wait", 117), ("wait", 117), ("send", 90))):
        samples.add(8.0 + number, [(LIBRARY, inner[1], inner[0]), OWN, OWN], SOURCE)
    samples.add(11.0, [OWN], SOURCE)

    told = samples.summary(SOURCE)

    assert told["lines"] == [
        {"location": "app.py:41 (load_rows)", "in": f"{LIBRARY}:117 (wait)", "share": 1.0}
    ]


def test_the_largest_share_is_first_and_few_are_told() -> None:
    """Those that are met once would fill the record."""
    samples = Samples()
    for number in range(20):
        samples.add(8.0 + number, [("/task/app.py", number, "work")], SOURCE)
    samples.add(30.0, [("/task/app.py", 19, "work")], SOURCE, 5)

    lines = samples.summary(SOURCE)["lines"]

    assert len(lines) == MOST_LINES
    assert lines[0] == {"location": "app.py:19 (work)", "share": 0.24}
    assert lines[1]["share"] == 0.04


def test_where_no_code_of_the_users_is_nothing_is_told() -> None:
    """The shares add up to less than 1."""
    samples = Samples()
    samples.add(8.0, [(LIBRARY, 1, "wait"), (f"{PACKAGE}_handler.py", 99, "guarded")], SOURCE)
    samples.add(9.0, [OWN], SOURCE)

    assert samples.summary(SOURCE)["lines"] == [{"location": "app.py:41 (load_rows)", "share": 0.5}]


def test_a_stack_is_looked_at_as_far_as_need_be(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep in a library, that is farther than usual."""
    asked: list[int] = []
    library = [(LIBRARY, 7, "walk")]

    def look(_thread: int, most: int) -> Any:
        asked.append(most)
        return [*library * 40, (__file__, 5, "handler")][:most]

    monkeypatch.setattr(module, "stack_of", look)
    one = invocation()

    sampling.look(one, HERE, START + 8.0)

    assert asked[-1] == MOST_FRAMES
    assert taken(sampling, one)["lines"][0]["location"].endswith(":5 (handler)")


def test_a_stack_is_cut_and_walked_while_no_garbage_is_collected() -> None:
    """Of a thread that is; of none, it is empty."""
    stack = stack_of(HERE, 2)

    assert [entry[2] for entry in stack][1] == sys._getframe().f_code.co_name
    assert len(stack) == 2
    assert stack_of(-1) == []


def test_folders_are_listed_once(sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the path changes."""
    first = sampling._code()

    assert sampling._code() is first
    monkeypatch.syspath_prepend("/somewhere/else")
    assert sampling._code() is not first


# ---- the setting -------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("100", 100), (" 5 ", 5)])
def test_the_number_is_a_setting(text: str, count: int) -> None:
    """Of the environment, or in code."""
    assert Settings.from_environ({"WATCHDOG_LAMBDA_SAMPLES": text}).samples == count
    assert Settings.from_environ({}, samples=count).samples == count


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "1e2", "\u0663", "9" * 5000])
def test_what_is_no_number_of_samples_is_refused(text: str) -> None:
    """With a value that would do."""
    with pytest.raises(ConfigurationError, match=r"SAMPLES=.* from 0 to 100; use for example 20$"):
        Settings.from_environ({"WATCHDOG_LAMBDA_SAMPLES": text})


@pytest.mark.parametrize("value", [True, 2.5, [], 101])
def test_nor_is_it_in_code(value: object) -> None:
    """True is an int, and no number of samples."""
    with pytest.raises(ConfigurationError, match=r"^samples=.*; use for example 20$"):
        Settings.from_environ({}, samples=value)


def test_a_look_in_between_takes_no_sample(sampling: Sampling) -> None:
    """The watchdog is also woken for other things."""
    one = invocation()
    one.due = sampling.look(one, HERE, START + 8.0)

    assert sampling.look(one, HERE, START + 8.5) == one.due == START + 9.0
    told = taken(sampling, one)
    assert (told["samples"], told["to_ms"]) == (1, 8000)


def test_shares_are_in_hundredths() -> None:
    """As fine as the number of samples allows."""
    samples = Samples()
    for line in (1, 2, 3):
        samples.add(8.0, [("/task/app.py", line, "work")], SOURCE)

    assert [told["share"] for told in samples.summary(SOURCE)["lines"]] == [0.33] * 3
