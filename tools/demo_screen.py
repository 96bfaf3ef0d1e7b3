"""What ``tools.demo`` prints: two runs of one handler, side by side on one screen of text."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import textwrap
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tools.demo import Claim, Entry, Run

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_SYMBOLS: Final = {
    "running": ("=", ""),
    "hooks": ("h", "yellow"),
    "interrupt": ("!", "yellow"),
    "cleanup": ("#", "green"),
    "left": (".", "dim"),
    "kill": ("X", "red"),
}
_LEGEND: Final = {"left": "time left"}
_PAINTED: Final = ("running", "left", "hooks", "cleanup", "interrupt", "kill")
"""In this order, so that whatever there was is seen, be it short."""

_LABEL: Final = 12
_GAP: Final = 2
_TAIL: Final = 18  # behind a bar of the timeline
_LEAST_STEP: Final = 6  # between two seconds of its ruler
_MOST_LINES: Final = 24  # of one cell
_MOST_CHARACTERS: Final = 400  # of one line of the log, or of the answer


class Styled(NamedTuple):
    """A line or a part of one, and its look on a terminal."""

    text: str
    style: str = ""
    indent: int = 0
    """Of what does not fit on the line and goes on the next."""


class Screen:
    """As wide as the terminal, within 80 and 120 columns; 100 if there is none."""

    def __init__(self) -> None:
        is_terminal = sys.stdout.isatty()
        columns = shutil.get_terminal_size((100, 24)).columns if is_terminal else 100
        self._width = min(max(columns, 80), 120) - 1
        # With the watchdog there is more to tell.
        left = int((self._width - _LABEL - _GAP) * 0.43)
        self._columns = (left, self._width - _LABEL - _GAP - left)
        self._coloured = (
            is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def show(self, heading: Sequence[str], without: Run, watched: Run, claims: list[Claim]) -> None:
        """Print it all."""
        runs = (without, watched)

        def row(label: str, cell: Callable[[Run], Iterator[Styled]]) -> None:
            self._row(label, [list(cell(run)) for run in runs])

        for line in heading:
            print(textwrap.shorten(line, self._width, placeholder=" ..."))
        print()
        titles = ("WITHOUT THE WATCHDOG", "WITH THE WATCHDOG")
        self._row("", [[Styled(title, "bold")] for title in titles])
        row("runtime", lambda run: iter([Styled(run.command, "dim")]))
        print()
        row("caller got", _answer)
        row("after", _after)
        row("cleanup", _cleanup)
        row("next call", _next)
        print()
        row("log", _log)
        print()
        self._timeline(without.timeout, {"without": without, "with": watched})
        print()
        for claim in claims:
            mark = Styled("shown", "green") if claim.shown else Styled("NOT SHOWN", "red")
            print(f"{self._look(mark)}: {claim.text}")

    def _row(self, label: str, cells: list[list[Styled]]) -> None:
        left, right = (
            _cut([line for part in cell for line in _wrapped(part, width)])
            for cell, width in zip(cells, self._columns, strict=True)
        )
        for one, other in itertools.zip_longest(left, right, fillvalue=Styled("")):
            padding = " " * (self._columns[0] + _GAP - len(one.text))
            print(f"{label:<{_LABEL}}{self._look(one)}{padding}{self._look(other)}".rstrip())
            label = ""

    def _look(self, part: Styled) -> str:
        if not part.style or not part.text or not self._coloured:
            return part.text
        return f"\x1b[{_STYLES[part.style]}m{part.text}\x1b[0m"

    def _timeline(self, timeout: int, runs: dict[str, Run]) -> None:
        length = self._width - _LABEL - _TAIL
        seconds, ruler = _ruler(timeout, length)
        print(f"{'timeline':<{_LABEL}}{seconds}")
        print(f"{'':<{_LABEL}}{ruler}")
        for name, run in runs.items():
            bar = "".join(
                self._look(Styled(symbol * len(list(cells)), style))
                for (symbol, style), cells in itertools.groupby(_bar(run, length))
            )
            tail = "killed" if run.was_killed else f"{run.spare:.2f} s to spare"
            print(f"{name:<{_LABEL}}{bar}  {tail}")
        used = {phase.name for run in runs.values() for phase in run.phases()}
        legend = [
            f"{s} {_LEGEND.get(name, name)}" for name, (s, _) in _SYMBOLS.items() if name in used
        ]
        print(f"{'':<{_LABEL}}{'   '.join(legend)}")


# ---- cells --------------------------------------------------------------------------------------


def _answer(run: Run) -> Iterator[Styled]:
    yield Styled(_short(run.answer.body) or "nothing", "red" if run.was_killed else "green")


def _after(run: Run) -> Iterator[Styled]:
    where = "past the limit" if run.spare < 0 else f"{run.spare:.2f} s before the limit"
    yield Styled(f"{run.answer.seconds:.2f} s, {where}")


def _cleanup(run: Run) -> Iterator[Styled]:
    if run.cleanup_at is not None:
        yield Styled(f"`{run.cleanup_marker}` ran after {run.cleanup_at:.2f} s", "green")
    elif run.was_killed:
        yield Styled("no `finally` ran: killed", "red")
    else:
        # No line of it in the log, but the handler has come to an end by itself.
        cleans_up = any(phase.name == "cleanup" for phase in run.phases())
        yield Styled("ran to its end" if cleans_up else "none called for")


def _next(run: Run) -> Iterator[Styled]:
    took = f"{run.next_answer.seconds * 1000:.0f} ms"
    if run.next_is_warm:
        yield Styled(f"{took}, warm: the same process {run.next_process}", "green")
    elif run.next_answer.status != HTTPStatus.OK:
        body = _short(run.next_answer.body) or "nothing"
        yield Styled(f"{took}, failed with {run.next_answer.status}: {body}", "red")
    else:
        yield Styled(f"{took}, cold: a new process {run.next_process}", "red")


def _log(run: Run) -> Iterator[Styled]:
    for entry in run.log:
        if entry.is_report and run.report is not None:
            yield Styled(_line(entry), "bold")
            for name, value in _record(run.report):
                yield Styled(f"  {name:<12}{value}", indent=14)
        else:
            yield Styled(_line(entry), indent=5)


def _line(entry: Entry) -> str:
    return " ".join(filter(None, (f"{entry.at:.2f}", entry.level, _short(entry.message))))


def _record(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The watchdog's record in a few lines."""
    yield "where", report["location"]
    for number, hook in enumerate(report["hooks"]):
        text = f"{hook['name']}: {hook['outcome']} in {hook['duration_ms']:.1f} ms"
        yield "" if number else "hooks", text
    if not report["hooks"]:
        yield "hooks", "none registered"
    # One that is swallowed over and over again makes a long list.
    alike = itertools.groupby(report["interrupts"], lambda i: (i["exception"], i["outcome"]))
    for number, ((exception, outcome), group) in enumerate(alike):
        times = [interrupt["after_ms"] / 1000 for interrupt in group]
        text = f"{exception} at {times[0]:.2f} s: {outcome}"
        more = f", {len(times) - 1} more until {times[-1]:.2f} s" if len(times) > 1 else ""
        yield "" if number else "interrupts", text + more
    if not report["interrupts"]:
        yield "interrupts", "none"
    elapsed, remaining = report["elapsed_ms"] / 1000, report["remaining_ms"] / 1000
    yield "outcome", f"{report['outcome']} after {elapsed:.2f} s, {remaining:.2f} s left"
    if "obstacle" in report:
        yield "obstacle", report["obstacle"]


def _short(text: str) -> str:
    return textwrap.shorten(text, _MOST_CHARACTERS, placeholder=" ...")


def _wrapped(part: Styled, width: int) -> list[Styled]:
    # The text is the handler's: nothing of it may move the cursor.
    text = "".join(character if character.isprintable() else "?" for character in part.text)
    lines = textwrap.wrap(text, width, subsequent_indent=" " * part.indent, break_on_hyphens=False)
    return [Styled(line, part.style) for line in lines]


def _cut(lines: list[Styled]) -> list[Styled]:
    left_out = len(lines) - _MOST_LINES
    if left_out > 1:
        half = _MOST_LINES // 2
        lines[half : half + left_out] = [Styled(f"... {left_out} lines ...", "dim")]
    return lines


# ---- the timeline -------------------------------------------------------------------------------


def _column(seconds: float, timeout: int, length: int) -> int:
    return min(max(int(seconds / timeout * length), 0), length)


def _ruler(timeout: int, length: int) -> tuple[str, str]:
    """Seconds, and the marks below them."""
    steps = (1, 2, 5, 10, 20, 50, 100, 200)
    step = next(step for step in steps if _column(step, timeout, length) >= _LEAST_STEP)
    seconds, marks = [" "] * (length + _TAIL), ["-"] * (length + 1)
    for second in (*range(0, timeout, step), timeout):
        at = _column(second, timeout, length)
        if second < timeout and length - at < _LEAST_STEP:
            continue
        text = f"{second} s" if second == timeout else str(second)
        seconds[at : at + len(text)] = text
        marks[at] = "|"
    return "".join(seconds).rstrip(), "".join(marks)


def _bar(run: Run, length: int) -> list[tuple[str, str]]:
    """One symbol and its style for each column, the hard deadline's being the last."""
    cells = [_SYMBOLS["running"]] * length + [("|", "")]
    phases = run.phases()
    for name in _PAINTED:
        for phase in phases:
            if phase.name != name:
                continue
            first = _column(phase.start, run.timeout, length)
            last = _column(phase.end, run.timeout, length)
            # However short they were, hooks and cleanup are to be seen beside the interrupt.
            if name == "hooks":
                first = max(first - 1, 0)
            if name == "cleanup":
                first = min(first + 1, length - 1)
            if name != "left":
                last = max(last, first + 1)
            cells[first:last] = [_SYMBOLS[name]] * (last - first)
    return cells
