"""What cells leave: the lines of their timeouts and a result, counted, and shown side by side."""

from __future__ import annotations

import collections
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

RESULT: Final = "soak.result"  # the event of a cell's last line


class Log:
    """The lines that the timeouts of one process left, counted by their request ids."""

    def __init__(self) -> None:
        self.lines: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.interrupts: collections.Counter[str] = collections.Counter()
        self.garbage: list[str] = []
        self.result: dict[str, Any] | None = None

    def read(self, line: str) -> None:
        try:
            record = json.loads(line)
            if record["event"] == RESULT:
                self.result = record
                return
            self.lines[record["request_id"].strip()] += 1
            self.outcomes[record["outcome"]] += 1
            self.interrupts.update(i["outcome"] for i in record["interrupts"])
        except (ValueError, KeyError, TypeError, AttributeError):
            self.garbage.append(line[:200])

    def violations(self, reported: Collection[str]) -> Iterator[tuple[str, int, str]]:
        """What, how often, and for example which; one line is wanted for each of these ids."""
        for what, found in (
            ("a timeout without a line in the log", [i for i in reported if i not in self.lines]),
            ("more than one line for a timeout", [i for i, n in self.lines.items() if n > 1]),
            ("no line of ours in the log", self.garbage),
        ):
            if found:
                yield what, len(found), found[0]


ROWS: Final = {
    "invocations": "invocations",
    "  of them blocks with a limit": "blocks",
    "  seconds": "seconds",
    "  the watchdog acted on": "fired",
    "    after it was due, us, p50 / p99": "lag",
    "  interrupted": "interrupted",
    "woke within 50 us of the end": "fired close",
    "  the handler was first": "fired close, handler first",
    "  the interrupt was first": "fired close, interrupt first",
    "interrupt sent within 50 us of it": "sent close",
    "  the handler was first ": "sent close, handler first",
    "  the interrupt was first ": "sent close, interrupt first",
    "lines in the log": "lines",
    **{f"  {outcome}": outcome for outcome in ("raised", "returned", "stuck")},
    "  interrupts: delivered": "delivered",
    "  interrupts: another followed": "swallowed",
    "  interrupts: never landed": "pending",
    "known: between the ends of two": "between two ends",
    "known: hit inside a Condition": "conditions hit",
    "known: dropped by C code": "dropped by C code",
    "other errors that C code dropped": "other errors dropped",
    "known: hung, and cut late": "cut late",
    "known: finally skipped (gh-130279)": "finally skipped",
    "VIOLATIONS": "violations",
}
"""What is printed, and the name of its counter."""


class Report(NamedTuple):
    """The result of one cell."""

    name: str
    seconds: float
    log: Log
    troubles: tuple[str, ...] = ()
    late: int = 0
    """Lines on standard error, because they were not read from standard output in time."""
    is_whole: bool = True  # whether every timeout must have its line

    @property
    def counted(self) -> collections.Counter[str]:
        return collections.Counter((self.log.result or {}).get("count", {}))

    def violations(self) -> Iterator[tuple[str, int]]:
        """What, and how often."""
        yield from ((trouble, 1) for trouble in self.troubles)
        result = self.log.result or {"violations": {}, "reported": ()}
        yield from result["violations"].items()
        if self.is_whole:
            for what, number, which in self.log.violations([*map(str, result["reported"])]):
                yield f"{what} (say {which})", number

    def rows(self) -> dict[str, str]:
        if self.log.result is None:
            return {}
        count = self.counted + self.log.outcomes + self.log.interrupts
        count["seconds"], count["lines"] = round(self.seconds), self.log.lines.total()
        count["violations"] = sum(n for _, n in self.violations())
        lag = " / ".join(map(str, self.log.result["lag_us"]))
        return {row: lag if key == "lag" else f"{count[key]:,}" for row, key in ROWS.items()}

    def tell(self) -> None:
        """Print what was wrong, with what is known about it."""
        violations = dict(self.violations())
        for what, number in violations.items():
            print(f"VIOLATION: {self.name}: {what}: {number}")
        for sample in (self.log.result or {}).get("samples", ()) if violations else ():
            print(f"\n{self.name}: {sample}", flush=True)


def table(columns: Sequence[tuple[str, dict[str, str]]]) -> str:
    """Cells side by side: what each is called, and its rows."""
    labels = dict.fromkeys(label for _, rows in columns for label in rows)
    lines = [["", *(name for name, _ in columns)]]
    lines += [[label, *(rows.get(label, "-") for _, rows in columns)] for label in labels]
    width, *widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([label.ljust(width), *map(str.rjust, cells, widths)]) for label, *cells in lines
    )
