"""The page on the grace period has the table that its command makes."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.grace import COLUMNS, MEMORY, TIMEOUT, WHOLE, Run, times

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "grace-period.md"


def test_table_has_the_commands_columns_and_rows() -> None:
    """The table has the command's columns, and a row for each memory size with its CPU share."""
    [table] = re.findall(r"<!-- grace: .*? -->\n(.*?)<!--", PAGE.read_text("utf-8"), re.DOTALL)
    head, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]

    assert tuple(head) == COLUMNS
    assert [row[:2] for row in rows] == [[f"{m} MB", f"{m / WHOLE:.0%}"] for m in MEMORY]
    assert all(re.fullmatch(r"\d+ ms \(\d+\)", cell) for row in rows for cell in row[2:])


def test_times_are_relative_to_the_hard_deadline() -> None:
    """Times are relative to the hard deadline, which both clocks share.

    The watchdog's clock has started 20 ms after the caller's.
    """
    record = {
        "elapsed_ms": 4900,
        "remaining_ms": TIMEOUT * 1000 - 20 - 4900,
        "grace_period_ms": 1500,
        "interrupts": [{"landed_after_ms": 4485}],
        "ended_after_ms": 4890,
    }

    assert times({"record": record, "seconds": 4.915}) == Run(landed=5, cleanup=405, answer=5)
