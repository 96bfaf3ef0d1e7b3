"""Tests of spans that are drawn to scale, with invented figures."""

from __future__ import annotations

import pytest

from watchdog_lambda.cli.timeline import (
    LABEL,
    Row,
    bar_of,
    draw,
    draw_large,
    draw_shares,
    figure,
    ruler,
)


def text(lines: list[list[object]]) -> list[str]:
    return ["".join(part.text for part in line).rstrip() for line in lines]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("begin", "end", "figures"),
    [
        (0.0, 3.0, "0 s 0.5 1 1.5 2 2.5 3 s"),
        (0.0, 0.8, "0 s 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 s"),
        (0.0, 900.0, "0 s 200 400 600 800 900 s"),
        (887.5, 900.0, "887.5 s 890 892 894 896 898 900 s"),
    ],
)
def test_ruler_has_round_figures_and_both_ends(begin: float, end: float, figures: str) -> None:
    """The ruler has round figures and both ends, as many as fit, each at its second."""
    seconds, marks = ruler(begin, end, 60)

    assert " ".join(seconds.split()) == figures
    assert (marks[0], marks[-1], len(marks)) == ("|", "|", 61)
    for position, character in enumerate(marks):
        if character == "|" and 0 < position < 60:
            at = begin + (end - begin) * position / 60
            assert abs(float(seconds[position:].split()[0]) - at) <= (end - begin) / 120 + 1e-9


def test_bar_length_matches_the_span() -> None:
    """A bar is as long as its span, to half a column."""
    bar = bar_of(Row("running", "=", "", ((0.5, 2.0),)), 0.0, 3.0, 60)

    assert bar == " " * 10 + "=" * 30 + " " * 21


@pytest.mark.parametrize("at", [0.0, 1.234, 3.0])
def test_instantaneous_mark_has_one_column(at: float) -> None:
    """A mark, which takes no time, has one column, also at the hard deadline at the very end."""
    bar = bar_of(Row("interrupt", "!", "", ((at, at),)), 0.0, 3.0, 60)

    assert bar.count("!") == 1
    assert bar.index("!") == round(at * 20)


def test_spans_are_clipped_to_the_window() -> None:
    """A span that extends beyond the window is cut at its edges, and one outside is not drawn."""
    row = Row("running", "=", "", ((0.0, 95.0), (10.0, 20.0)))

    assert bar_of(row, 90.0, 100.0, 10) == "=====      "


def test_rows_are_below_the_ruler_and_fit_the_width() -> None:
    """Rows are below the ruler and fit the width.

    Labels and texts have a column each, and long ones are cut.
    """
    rows = [
        Row("running", "=", "", ((0.0, 2.0),), "2.00 s"),
        Row("hook", "h", "", ((2.0, 2.5),), "a_package_with_a_long.name: ok in 500 ms, and more"),
    ]

    lines = text(draw(rows, 0.0, 3.0, 90))  # type: ignore[arg-type]

    assert [line[:LABEL].strip() for line in lines] == ["", "", "running", "hook"]
    assert max(map(len, lines)) <= 90
    assert lines[1].index("|") == lines[2].index("=")
    assert lines[3].endswith("...")


def test_tiny_spans_are_drawn_again_on_a_larger_scale() -> None:
    """Spans that are too small are drawn again on a larger scale.

    Here three seconds of fifteen minutes are drawn on a second ruler that begins shortly
    before.
    """
    running = Row("running", "=", "", ((0.0, 897.0),))
    rows = [running, Row("interrupt", "!", "", ((897.0, 897.0),))]
    whole, part = (
        text(draw_large(rows, running, 897.0, end, 100))  # type: ignore[arg-type]
        for end in (1000.0, 900.0)
    )

    assert "" not in text(draw_large(rows, running, 400.0, 900.0, 100))  # type: ignore[arg-type]
    assert "" in whole
    assert part[:4] == part[: part.index("") + 1]
    assert part[4].split()[0] == "896.25"


def test_figures_have_no_trailing_zeros() -> None:
    """Figures have no zeros at the end of a fraction, and keep those before the point."""
    assert [figure(value, 2) for value in (2.0, 0.25, 100.0, 1.1)] == ["2", "0.25", "100", "1.1"]


def test_shares_are_drawn_as_bars() -> None:
    """Shares are drawn as bars below the timeline.

    The smallest one is visible, and none is wider than the screen.
    """
    lines = text(draw_shares([(0.85, "app.py:41 (load_rows)"), (0.001, "x" * 200)], 113))  # type: ignore[arg-type]

    assert lines[0] == " " * 6 + "85%  " + "#" * 51 + " " * 12 + "app.py:41 (load_rows)"
    assert lines[1].startswith(" " * 7 + "0%  # ")
    assert max(map(len, lines)) <= 113
