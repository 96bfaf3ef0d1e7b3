"""The documentation's pictures agree with the code and are made from their figures."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.pages import is_made
from tests.support import Context
from tools.pictures import __main__ as pictures
from watchdog_lambda import Interrupt, LambdaTimeout, Watchdog
from watchdog_lambda._config import Settings
from watchdog_lambda._engine.interrupts import PAUSE
from watchdog_lambda.errors import LoopInterrupt
from watchdog_lambda.testing import FakeContext, clock, expire, timeout_records

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[Any, Any], Any]

DEFAULTS = Settings({})

SECONDS = 0.4
"""The time of real invocations; the watchdog fires after three quarters of it."""


def test_pictures_match_stored_figures() -> None:
    """Each picture is made from the stored figures, and so is the soak's table."""
    for path, text in pictures.drawn().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: dev.py pictures --redraw"
    assert is_made(pictures.PROOF), "dev.py pictures --redraw"


def test_timeline_picture_uses_default_settings() -> None:
    """The timeline's run had the whole default grace period.

    Each phase begins where the last one ends.
    """
    run = pictures.read()
    rows = {row["phase"]: row for row in run.watched}

    assert (run.grace_period, run.last_call) == (DEFAULTS.grace_period, DEFAULTS.last_call)
    grace = run.timeout - run.grace_period
    assert grace == pytest.approx(rows["hook"]["start"], abs=0.25)
    assert rows["hook"]["end"] == pytest.approx(rows["interrupt"]["start"], abs=0.1)
    assert rows["cleanup"]["end"] <= rows["left"]["start"] <= run.timeout - run.last_call
    assert [row["phase"] for row in run.unwatched][-1] == "killed"


@pytest.mark.parametrize("name", ["timeline.svg", "race.svg", "limits.svg"])
def test_pictures_are_legible_on_light_and_dark_pages(name: str) -> None:
    """Pictures can be read on light and dark pages: no background, and enough contrast.

    Every colour is at least 2.9 times as bright or as dark as the page. White text is only on
    bars of the picture's own.
    """
    drawn = (pictures.FOLDER / name).read_text(encoding="utf-8")
    pages = (luminance("#ffffff"), luminance("#131416"))

    colours = set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#ffffff"}

    assert colours
    for colour in colours:
        for page in pages:
            low, high = sorted((luminance(colour), page))
            assert (high + 0.05) / (low + 0.05) >= 2.9, colour


def luminance(colour: str) -> float:
    """Return the relative luminance that the accessibility guidelines define."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def raises(_event: object, _context: object) -> None:
    expire()


def is_retried(_event: object, _context: object) -> None:
    """Retry after the interrupt, as a library does that takes it for one more failure."""
    while True:
        try:
            expire()
        except Exception:
            continue


def swallows_all(_event: object, _context: object) -> str:
    for _ in range(3):
        try:
            expire()
        except BaseException:
            continue
    return "answer"


def cleans_up(_event: object, _context: object) -> str:
    try:
        expire()
    except TimeoutError:
        clock.advance(0.5)
    return "answer"


def cleans_up_for_ever(_event: object, _context: object) -> None:
    try:
        expire()
    finally:
        expire()


def resists(_event: object, _context: object) -> str:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            threading.Event().wait(SECONDS)
        except BaseException:
            continue
    return "late answer"


def is_in_blind_c_code(_event: object, _context: object) -> str:
    os.system(f"sleep {SECONDS}")  # noqa: S605 - it waits in C, and looks at no signals
    return "late answer"


def ends_while_hooks_run(begun: threading.Event) -> Handler:
    def handler(_event: object, _context: object) -> str:
        begun.wait()
        return "answer"

    return handler


def path(record: dict[str, Any] | None) -> list[str]:
    """Return the states that an invocation went through, by its record."""
    if record is None:
        return ["runs", "settled"]
    states = ["runs", "hooks"]
    last_call_ms = record["elapsed_ms"] + record["remaining_ms"] - DEFAULTS.last_call * 1000
    landed_ms: float | None = None
    for interrupt in record["interrupts"]:
        if landed_ms is not None and landed_ms < last_call_ms <= interrupt["landed_after_ms"]:
            states.append("alone")
        landed_ms = interrupt["landed_after_ms"]
        states.append("first" if interrupt["exception"] == "LambdaTimeout" else "next")
    if record["outcome"] == "stuck":
        states.append("stuck")
    elif landed_ms is not None and record["ended_after_ms"] >= landed_ms + 400:
        states.append("alone")
    return [*states, "settled"]


def test_recorded_transitions_match_the_ladder_picture() -> None:
    """Every arrow of the ladder's picture is taken by a handler, and no other, by the records."""
    begun, release = threading.Event(), threading.Event()
    with_hook = Watchdog()

    @with_hook.shutdown_hook
    def hook(_details: object) -> None:
        begun.set()
        release.wait()

    real, fake = (lambda: Context(SECONDS)), FakeContext
    cases: list[tuple[Watchdog, Handler, Callable[[], object]]] = [
        (Watchdog(), lambda _e, _c: "answer", fake),
        (Watchdog(), raises, fake),
        (Watchdog(), is_retried, fake),
        (Watchdog(interrupt="base"), raises, fake),
        (Watchdog(), swallows_all, fake),
        (Watchdog(), cleans_up, fake),
        (Watchdog(), cleans_up_for_ever, fake),
        (Watchdog(), resists, real),
        # With severing the call would return.
        (Watchdog(sever=False), is_in_blind_c_code, real),
        (with_hook, ends_while_hooks_run(begun), real),
    ]

    taken: set[tuple[str, str]] = set()
    for watchdog, handler, context in cases:
        with timeout_records() as records:
            try:
                watchdog.watch(handler)({}, context())
            except LambdaTimeout:
                pass
        taken |= set(itertools.pairwise(path(records[0] if records else None)))
    release.set()

    page = (pictures.FOLDER / "design.md").read_text(encoding="utf-8")
    [diagram] = re.findall(r"```mermaid\n(stateDiagram.*?)```", page, re.DOTALL)
    assert taken == set(re.findall(r"^ +(\w+) --> (\w+):", diagram, re.MULTILINE))
    for name in (kind.__name__ for kind in (LambdaTimeout, Interrupt, LoopInterrupt)):
        assert re.search(rf"\b{name}\b", diagram)
    assert diagram.count(f"swallowed, {PAUSE * 1000:g} ms later") == 2
