"""The site's pages agree with the code and the measurements; `dev.py docs` checks links."""

from __future__ import annotations

import math
import re
import statistics
from pathlib import Path
from typing import Any

import watchdog_lambda
from benchmarks.limits import page as limits
from watchdog_lambda import batch, testing, typing
from watchdog_lambda._config import SETTINGS

DOCS = Path(__file__).parents[2] / "docs"


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def test_landing_page_snippet_runs() -> None:
    """The landing page's handler answers in time, and its fallback answers when the time is up."""
    [snippet] = re.findall(r"```python\n(.*?)```", text("index.md"), re.DOTALL)
    in_time: dict[str, Any] = {}
    late: dict[str, Any] = {"expire": testing.expire}
    exec(compile(snippet, "index.md", "exec"), in_time)  # noqa: S102
    slow = snippet.replace("    return", "    expire()\n    return")
    exec(compile(slow, "index.md", "exec"), late)  # noqa: S102

    assert in_time["handler"]({}, testing.FakeContext()) == {"statusCode": 200}
    assert late["handler"]({}, testing.FakeContext()) == {"statusCode": 504}


def test_every_page_is_linked_from_the_landing_page() -> None:
    """Every page can be reached from the landing page by links.

    A reader of the files does not have the site's navigation.
    """
    kinds = ("tutorial", "how-to", "reference", "explanation")
    pages = {p.relative_to(DOCS).as_posix() for kind in kinds for p in DOCS.glob(f"{kind}/*.md")}

    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", text("index.md")))

    assert pages - linked == set()


def test_comparison_matches_measured_limits() -> None:
    """The comparison has the figures of docs/explanation/limits.json."""
    page = text("explanation/comparison.md")
    results = limits.read()
    calls = [results.cells[version] for version in results.interpreters]
    rows = [list(cells.values()) for cells in calls]
    reached = {
        way: [
            [figure for row in cells if (figure := row[way].figure) is not None] for cells in rows
        ]
        for way in ("watchdog", "alarm", "injection")
    }
    counts = {way: [len(figures) for figures in ways] for way, ways in reached.items()}
    medians = {way: round(statistics.median(ways[0]), 1) for way, ways in reached.items()}
    loops = [cells["loop"] for cells in calls]
    ours = sorted(round(loop["watchdog"].figure or math.inf) for loop in loops)

    assert (
        f"Of {len(rows[0])} blocking calls it reaches {counts['alarm'][0]} on CPython 3.11, "
        f"and this package {counts['watchdog'][0]}; the medians are {medians['alarm']} ms and "
        f"{medians['watchdog']} ms.\n"
    ) in page
    assert [line.split(":")[:2] for line in results.worse()] == [["3.14.8", " int-to-str"]]
    assert (
        "It reaches one call that this package does not reach within two seconds: `str()`" in page
    )
    assert counts["watchdog"][0] - counts["alarm"][0] == 13
    assert "The other thirteen are calls" in page
    first, *others = counts["injection"]
    assert set(others) == {others[0]}
    assert f"of the {len(rows[0])} calls {first} were reached on 3.11, {others[0]} on" in page
    assert f"after {ours[0]} to {ours[-1]} ms in a bare loop" in page
    assert all((loop["alarm"].figure or math.inf) < 1 for loop in loops)


def test_api_page_lists_option_choices() -> None:
    """The API page has the options' two aliases.

    They exist for type checkers only, and are written by hand.
    """
    page = text("reference/api.md")

    for name, setting in (("InterruptKind", "interrupt"), ("LastResort", "last_resort")):
        listed = ", ".join(f'"{choice}"' for choice in SETTINGS[setting].choices)
        assert f".. py:type:: {name}\n   :canonical: Literal[{listed}]\n" in page


def test_api_page_has_every_public_name() -> None:
    """The API page has every public name of the package and of its public modules.

    Powertools' own names are left out.
    """
    page = text("reference/api.md")
    documented = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (?:[\w.]+\.)?(\w+)", page, re.MULTILINE))
    processors = {
        name
        for name in batch.__all__
        if getattr(getattr(batch, name), "__module__", "") == batch.__name__
    }

    aliases = {"Json", "Fallback"}
    for names in (
        watchdog_lambda.__all__,
        testing.__all__,
        processors,
        set(typing.__all__) - aliases,
    ):
        assert set(names) <= documented
