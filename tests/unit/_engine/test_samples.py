"""Samples of a handler's stack: when they are taken, and what the record says of them."""

from __future__ import annotations

import gc
import math
import sys
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import SilentReport, plan
from watchdog_lambda import ConfigurationError
from watchdog_lambda._config import Settings
from watchdog_lambda._cpython.source import PACKAGE, SourceMap
from watchdog_lambda._cpython.stacks import stack_of
from watchdog_lambda._engine import sampling as module
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.limits import Limit
from watchdog_lambda._engine.samples import MOST_LINES, Samples, places
from watchdog_lambda._engine.sampling import Sampling

if TYPE_CHECKING:
    from watchdog_lambda._cpython.stacks import Place

START = float(1 << 30)
HERE = get_ident()
SOURCE = SourceMap(["/task"])
LIBRARY = "/usr/lib/python3/site-packages/psycopg/connection.py"
OWN = ("/task/app.py", 41, "load_rows")


@pytest.fixture
def sampling() -> Sampling:
    return Sampling(SilentReport())


def invocation(**settings: Any) -> Invocation:
    """Return an invocation of 16 s with a grace period of 4 s, sampled from 8 s to 12 s."""
    made = plan(**{"grace_period": 4.0, "samples": 4, **settings})
    return Invocation(made, None, None, START, 16.0, START + 8.0)


def spread(count: int) -> Samples:
    """Return `count` planned samples, a second apart, from 8 s on."""
    samples = Samples()
    samples.spread(8.0, 8.0 + count, count)
    return samples


def see(samples: Samples, after: float, *stack: Place) -> None:
    samples.add(after, places([*stack], SOURCE))


def taken(sampling: Sampling, one: Invocation) -> dict[str, Any]:
    samples = sampling.of(one)
    assert samples is not None
    return samples.summary(SOURCE)


# ---- when samples are taken --------------------------------------------------------------------


def looked(sampling: Sampling, one: Invocation, *, moves: bool = False) -> list[float]:
    """Return the instants of the looks at a handler that stays in one place, or always moves."""
    now, instants = one.due, []
    while now < math.inf:
        if moves:
            samples = sampling.of(one)
            if samples is not None:
                samples._last = None
        instants.append(now - START)
        now = one.due = sampling.look(one, HERE, now)
    return instants


def test_samples_are_evenly_spaced_until_the_grace_period(
    sampling: Sampling,
) -> None:
    """Samples are evenly spaced from half of the time to the grace period.

    Each look returns when the next one is due, and the last look returns infinity.
    """
    one = invocation()

    assert looked(sampling, one, moves=True) == [8.0, 9.0, 10.0, 11.0]
    told = taken(sampling, one)
    assert (told["samples"], told["from_ms"], told["to_ms"]) == (4, 8000, 11000)


def test_sample_is_skipped_after_two_equal_looks(sampling: Sampling) -> None:
    """After two equal looks one sample is skipped and counted with the next one taken.

    The last sample is always taken.
    """
    one = invocation(samples=8)

    assert looked(sampling, one) == [8.0, 8.5, 9.5, 10.5, 11.5]
    told = taken(sampling, one)
    assert (told["samples"], told["from_ms"], told["to_ms"]) == (8, 8000, 11500)
    assert [line["share"] for line in told["lines"]] == [1.0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 20, 21])
def test_last_sample_is_always_taken(sampling: Sampling, count: int) -> None:
    """The last sample is always taken, to show a change shortly before the grace period."""
    one = invocation(samples=count)

    assert looked(sampling, one)[-1] == pytest.approx(12.0 - 4.0 / count)
    assert taken(sampling, one)["samples"] == count


def test_share_is_within_ten_points() -> None:
    """A place's share is within ten points of the time that the handler was there."""
    for first, last in ((a / 2, b / 2) for a in range(40) for b in range(a, 41)):
        samples = spread(20)
        while samples.next_at < math.inf:
            at = samples.next_at
            see(samples, at, ("/task/app.py", 1 + (first <= at - 8.0 < last), "work"))
        lines = samples.summary(SOURCE)["lines"]
        share = sum(line["share"] for line in lines if ":2 " in line["location"])
        assert share == pytest.approx((last - first) / 20, abs=0.1), (first, last)


@pytest.mark.parametrize("seconds", [0.3, 1.1, 29.97, 899.9])
@pytest.mark.parametrize("moves", [True, False])
def test_rounding_costs_no_sample(sampling: Sampling, seconds: float, *, moves: bool) -> None:
    """Rounding of instants costs no sample and adds no look.

    Otherwise the thread would look without end while the clock stands still.
    """
    one = Invocation(plan(samples=20), None, None, START, seconds, START + seconds / 2)

    assert len(looked(sampling, one, moves=moves)) == (20 if moves else 11)
    assert taken(sampling, one)["samples"] == 20


def test_no_sample_before_half_of_the_time(sampling: Sampling) -> None:
    """No sample is taken before half of the time has passed, whatever has woken the thread."""
    one = invocation()

    assert sampling.look(one, HERE, START + 7.9) == one.due
    assert sampling.of(one) is None


def test_late_look_counts_for_missed_samples(sampling: Sampling) -> None:
    """A late look counts for the samples that it missed while C code held the GIL."""
    one = invocation()

    assert sampling.look(one, HERE, START + 10.5) == START + 11.0
    assert taken(sampling, one)["samples"] == 3
    assert taken(sampling, one)["lines"][0]["share"] == 1.0


@pytest.mark.parametrize("why", ["settings", "ended", "fired", "block"])
def test_nothing_is_sampled_where_not_applicable(sampling: Sampling, why: str) -> None:
    """Nothing is sampled without the setting, after the end, after firing, or for a block."""
    one = invocation(samples=0 if why == "settings" else 4)
    if why == "block":
        one = Limit(plan(samples=4), START, 16.0)
        one.due = START
    one.is_open = why != "ended"
    if why == "fired":
        one.firing = SimpleNamespace(fired_at=12.0)  # type: ignore[assignment]

    assert sampling.look(one, HERE, START + 9.0) == math.inf
    assert sampling.of(one) is None


def test_sampling_continues_after_an_early_stage(sampling: Sampling) -> None:
    """After an early stage sampling goes on, and the firing has the samples."""
    one = invocation()
    firing: Any = SimpleNamespace(fired_at=None, samples=None)
    one.firing = firing
    one.due = START + 12.0

    assert sampling.look(one, HERE, START + 8.0) == START + 9.0
    assert firing.samples is sampling.of(one)


def test_samples_are_dropped_with_their_invocation(sampling: Sampling) -> None:
    """Samples are dropped with their invocation, so that they keep nothing alive."""
    one, other = invocation(), invocation()
    for each in (one, other):
        sampling.look(each, HERE, START + 8.0)

    sampling.keep({other})

    assert sampling.of(one) is None
    assert sampling.of(other) is not None


def test_failing_sample_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that fails is reported and is the invocation's last."""
    report = SilentReport()
    sampling, one = Sampling(report), invocation()
    defect = RuntimeError()

    def fail(*_given: object) -> None:
        raise defect

    monkeypatch.setattr(SourceMap, "places_from", fail)

    assert sampling.look(one, HERE, START + 8.0) == math.inf
    assert sampling.look(one, HERE, START + 9.0) == math.inf
    assert report.failures == [defect]


def test_memory_error_is_retried_at_the_next_look(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A MemoryError gets out, and the sample is taken at the next look."""
    one = invocation()

    def fail(*_given: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(SourceMap, "places_from", fail)
        with pytest.raises(MemoryError):
            sampling.look(one, HERE, START + 8.0)

    assert sampling.look(one, HERE, START + 8.0) == START + 9.0
    assert taken(sampling, one)["samples"] == 1


# ---- what the record says ----------------------------------------------------------------------


def test_line_has_innermost_user_frame_and_its_callee() -> None:
    """A line is the user's innermost frame, with the frame that it had called most often."""
    samples = spread(4)
    for number, inner in enumerate((("wait", 117), ("wait", 117), ("send", 90))):
        see(samples, 8.0 + number, (LIBRARY, inner[1], inner[0]), OWN, OWN)
    see(samples, 11.0, OWN)

    told = samples.summary(SOURCE)

    assert told["lines"] == [
        {"location": "app.py:41 (load_rows)", "in": f"{LIBRARY}:117 (wait)", "share": 1.0}
    ]


def test_largest_share_is_first_and_lines_are_limited() -> None:
    """The largest share comes first, and the number of lines is limited."""
    samples = spread(25)
    for number in range(20):
        see(samples, 8.0 + number, ("/task/app.py", number, "work"))
    see(samples, 32.0, ("/task/app.py", 19, "work"))

    lines = samples.summary(SOURCE)["lines"]

    assert len(lines) == MOST_LINES
    assert lines[0] == {"location": "app.py:19 (work)", "share": 0.24}
    assert lines[1]["share"] == 0.04


def test_sample_without_user_code_has_no_line() -> None:
    """A sample without user code has no line, so the shares add up to less than 1."""
    samples = spread(2)
    see(samples, 8.0, (LIBRARY, 1, "wait"), (f"{PACKAGE}_handler.py", 99, "guarded"))
    see(samples, 9.0, OWN)

    assert samples.summary(SOURCE)["lines"] == [{"location": "app.py:41 (load_rows)", "share": 0.5}]


def deep(frames: int) -> Any:
    """Return a stack of library frames, innermost first, inside the user's own frame."""
    code = SimpleNamespace(co_filename=__file__, co_name="handler")
    frame = SimpleNamespace(f_code=code, f_lineno=5, f_back=None)
    for _ in range(frames):
        code = SimpleNamespace(co_filename=LIBRARY, co_name="walk")
        frame = SimpleNamespace(f_code=code, f_lineno=7, f_back=frame)
    return frame


def test_stack_is_walked_only_to_user_code() -> None:
    """A stack is walked to the user's code, through at most 100 frames."""
    source = SourceMap([])
    lines = (__file__, 5, "handler"), (LIBRARY, 7, "walk")

    assert source.places_from(deep(0), 1) == (lines[0], None)
    assert source.places_from(deep(99), 100) == lines
    assert source.places_from(deep(100), 100) is None
    assert source.places_from(None, 100) is None


def test_frames_outside_the_guard_are_excluded() -> None:
    """User code outside of the guard is not the handler's.

    A user's test may call a handler that is a library's.
    """
    outer = deep(0)
    code = SimpleNamespace(co_filename=f"{PACKAGE}_handler.py", co_name="guarded")
    guard = SimpleNamespace(f_code=code, f_lineno=9, f_back=outer)
    code = SimpleNamespace(co_filename=f"{PACKAGE}batch.py", co_name="shielded")
    ours: Any = SimpleNamespace(f_code=code, f_lineno=9, f_back=outer)

    assert SourceMap([]).places_from(guard, 100) is None  # type: ignore[arg-type]
    assert SourceMap([]).places_from(ours, 100) == ((__file__, 5, "handler"), None)


@pytest.mark.parametrize("collects", [True, False])
def test_gc_is_disabled_during_a_look(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch, *, collects: bool
) -> None:
    """The garbage collector is off during a look, and afterwards as it was before."""
    seen: list[bool] = []

    def look(*_given: object) -> Any:
        seen.append(gc.isenabled())
        return None, None

    monkeypatch.setattr(SourceMap, "places_from", look)
    was = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        sampling.look(invocation(), HERE, START + 8.0)
        seen.append(gc.isenabled())
    finally:
        (gc.enable if was else gc.disable)()

    assert seen == [False, collects]


def test_whole_stack_is_read_if_frames_cannot_be_walked(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the frames must not be walked, the whole stack is read instead.

    That is so where another interpreter may run.
    """
    monkeypatch.setattr(module, "has_other_interpreters", lambda: True)
    monkeypatch.setattr(module, "stack_of", lambda _thread, _most: [(__file__, 5, "handler")])
    one = invocation()

    sampling.look(one, HERE, START + 8.0)

    assert taken(sampling, one)["lines"][0]["location"].endswith(":5 (handler)")


def test_stack_of_limits_the_length() -> None:
    """``stack_of`` cuts the stack to the given length; it is empty for an unknown thread."""
    stack = stack_of(HERE, 2)

    assert [entry[2] for entry in stack][1] == sys._getframe().f_code.co_name
    assert len(stack) == 2
    assert stack_of(-1) == []


def test_path_folders_are_listed_once(sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of ``sys.path`` are listed once, until the path changes."""
    one = invocation()
    maps: list[SourceMap] = []
    for path in ("", "", "/somewhere/else"):
        if path:
            monkeypatch.syspath_prepend(path)
        sampling.look(one, HERE, START + 8.0)
        maps.append(sampling._source)

    assert maps[0] is maps[1]
    assert maps[1] is not maps[2]


# ---- the setting -------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("100", 100), (" 5 ", 5)])
def test_number_of_samples_can_be_set(text: str, count: int) -> None:
    """The number of samples can be set in the environment or in code."""
    assert Settings.from_environ({"WATCHDOG_LAMBDA_SAMPLES": text}).samples == count
    assert Settings.from_environ({}, samples=count).samples == count


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "1e2", "\u0663", "9" * 5000])
def test_invalid_number_of_samples_in_environment_is_refused(text: str) -> None:
    """The environment's value must be an integer from 0 to 100, and the error shows a valid one."""
    with pytest.raises(ConfigurationError, match=r"SAMPLES=.* from 0 to 100; use for example 20$"):
        Settings.from_environ({"WATCHDOG_LAMBDA_SAMPLES": text})


@pytest.mark.parametrize("value", [True, 2.5, [], 101])
def test_invalid_number_of_samples_in_code_is_refused(value: object) -> None:
    """In code the value must be an integer as well, and True is not accepted."""
    with pytest.raises(ConfigurationError, match=r"^samples=.*; use for example 20$"):
        Settings.from_environ({}, samples=value)


def test_early_look_takes_no_sample(sampling: Sampling) -> None:
    """A look before the next sample is due takes none."""
    one = invocation()
    one.due = sampling.look(one, HERE, START + 8.0)

    assert sampling.look(one, HERE, START + 8.5) == one.due == START + 9.0
    told = taken(sampling, one)
    assert (told["samples"], told["to_ms"]) == (1, 8000)


def test_shares_are_rounded_to_hundredths() -> None:
    """Shares are rounded to hundredths."""
    samples = spread(3)
    for line in (1, 2, 3):
        see(samples, 7.0 + line, ("/task/app.py", line, "work"))

    assert [told["share"] for told in samples.summary(SOURCE)["lines"]] == [0.33] * 3
