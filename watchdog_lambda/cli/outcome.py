"""The outcome of an invocation in one word, its phases in time, and its exit status.

All of them are pure functions of an :class:`.Invocation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .screen import Styled
from .timeline import Row, draw, draw_large, draw_shares

if TYPE_CHECKING:
    from .function import Invocation

Outcome = Literal["answered", "failed", "caught", "crashed", "killed"]

EXIT_STATUS: dict[Outcome, int] = {
    "answered": 0,
    "failed": 1,
    "caught": 3,
    "crashed": 1,
    "killed": 4,
}
"""`caught`: the handler timed out, and the caller got an answer or an error before the hard
deadline, thanks to the watchdog or a supervisor. `crashed`: the process died, and its supervisor
answered."""

_STYLES = {
    "init": ("i", "dim"),
    "running": ("=", ""),
    "hook": ("h", "yellow"),
    "interrupt": ("!", "yellow"),
    "cleanup": ("#", "green"),
    "settle": ("s", ""),
    "left": (".", "dim"),
    "killed": ("X", "red"),
}
_ALIKE = 3  # up to this many interrupts get a row each


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of one invocation, in seconds since its clock started."""

    name: str
    """`init`, `running`, `hook`, `interrupt`, `cleanup`, `settle`, `left`, `last call`, `killed`"""
    start: float
    end: float
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the phase as it appears in the JSON."""
        return {
            "phase": self.name,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
        }


def outcome_of(invocation: Invocation) -> Outcome:
    """Return the outcome of an invocation."""
    if invocation.kind == "killed":
        return "killed"
    if invocation.record is not None:
        return "caught"
    crash = invocation.crash
    if crash is not None and crash["outcome"] == "answered":
        return "crashed"
    return "answered" if invocation.kind == "response" else "failed"


def phases(invocation: Invocation, timeout: float) -> list[Phase]:
    """Reconstruct what happened when, from the measured times and the watchdog's record."""
    found: list[Phase] = []
    start = 0.0
    if invocation.init_counts and invocation.init_seconds is not None:
        start = min(invocation.init_seconds, invocation.seconds, timeout)
        found.append(Phase("init", 0.0, start, "counted, as in the emulator"))
    answered = timeout if invocation.kind == "killed" else min(invocation.seconds, timeout)
    if invocation.record is None:
        found.append(Phase("running", start, answered, _seconds(answered - start)))
    else:
        found += _of_record(*invocation.record, start, answered)
    if invocation.kind == "killed":
        found.append(Phase("killed", timeout, timeout, "at the hard deadline"))
    else:
        found.append(Phase("left", answered, timeout, f"{_seconds(timeout - answered)} to spare"))
    return found


def _of_record(
    written: float, record: dict[str, Any], start: float, answered: float
) -> list[Phase]:
    # The watchdog's clock started a moment after ours. Align the two where it wrote its record.
    origin: float = max(written - record["elapsed_ms"] / 1000, 0.0)

    def at(milliseconds: float) -> float:
        return min(origin + milliseconds / 1000, answered)

    ended = record.get("ended_after_ms")
    end = answered if ended is None else at(ended)
    landed = [i for i in record["interrupts"] if i["landed_after_ms"] is not None]
    # If the handler has ended, the last interrupt ended it; the handler swallowed the others.
    last = at(landed[-1]["landed_after_ms"]) if landed and ended is not None else end
    found = [Phase("running", start, last, _seconds(last - start))]
    for hook in record["hooks"]:
        if hook["after_ms"] is not None:
            begun = at(hook["after_ms"])
            took = hook["duration_ms"]
            # For a failed hook the error says more than the duration.
            rest = hook.get("error", f"in {took:.0f} ms")
            text = f"{hook['name']}: {hook['outcome']} {rest}"
            found.append(Phase("hook", begun, min(begun + took / 1000, answered), text))
    for interrupt in record["interrupts"]:
        sent = interrupt["landed_after_ms"]
        when = at(interrupt["after_ms"] if sent is None else sent)
        found.append(
            Phase("interrupt", when, when, f"{interrupt['exception']}: {interrupt['outcome']}")
        )
    if last < end:
        found.append(Phase("cleanup", last, end, _seconds(end - last)))
    if end < answered:
        found.append(Phase("settle", end, answered, _seconds(answered - end)))
    return found


def drawn(invocation: Invocation, timeout: float, width: int) -> list[list[Styled]]:
    """Draw the phases to scale, and the timeout's part again, larger, if it is too small to see."""
    found = phases(invocation, timeout)
    acts = [phase.start for phase in found if phase.name in {"hook", "interrupt"}]
    if not acts:
        return draw(_rows(found), 0.0, timeout, width)
    first = min(acts)
    start = next(phase.start for phase in found if phase.name == "running")
    text = f"{_seconds(first - start)}, and then:"
    running = Row("running", "=", "", ((start, first),), text)
    return draw_large(_rows(found), running, first, timeout, width)


def time_spent(invocation: Invocation, width: int) -> list[list[Styled]]:
    """Draw where the second half of the time went, as bars. Empty if the record has no samples."""
    spent = None if invocation.record is None else invocation.record[1].get("time_spent")
    if spent is None:
        return []
    begin, end = spent["from_ms"] / 1000, spent["to_ms"] / 1000
    head = f"where the time went from {begin:.2f} to {end:.2f} s, by {spent['samples']} samples:"
    shares = [
        (line["share"], ", in ".join(line[key] for key in ("location", "in") if key in line))
        for line in spent["lines"]
    ]
    return [[Styled(head, "dim")], *draw_shares(shares, width)]


def _rows(found: list[Phase]) -> list[Row]:
    """Make a row for each phase. Many interrupts share one row."""
    rows: list[Row] = []
    interrupts = [phase for phase in found if phase.name == "interrupt"]
    together = len(interrupts) > _ALIKE
    for phase in found:
        symbol, style = _STYLES[phase.name]
        spans: tuple[tuple[float, float], ...] = ((phase.start, phase.end),)
        text = phase.text
        if phase.name == "interrupt" and together:
            if phase is not interrupts[0]:
                continue
            spans = tuple((each.start, each.end) for each in interrupts)
            text = f"{len(interrupts)}, the last {interrupts[-1].text}"
        if phase.name == "interrupt":
            text = f"{spans[0][0]:.2f} s {text}"
        rows.append(Row(phase.name, symbol, style, spans, text))
    return rows


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.0995 else f"{seconds * 1000:.0f} ms"


def in_words(invocation: Invocation, timeout: float) -> tuple[str, str]:
    """Return one line about the invocation, and the line's style."""
    outcome = outcome_of(invocation)
    after = f"after {_seconds(invocation.seconds)}"
    spare = f"{_seconds(timeout - invocation.seconds)} before the hard deadline"
    if outcome == "answered":
        return f"answered {after}", "green"
    if outcome == "killed":
        if invocation.init_counts and invocation.init_seconds == invocation.seconds:
            return f"killed: the start did not end within {invocation.seconds:.1f} s", "red"
        return f"killed at the hard deadline of {timeout:g} s", "red"
    if outcome == "failed":
        return f"failed {after}: {invocation.error_type}", "red"
    if outcome == "crashed" and invocation.crash is not None:
        text = f"crashed after {_seconds(invocation.seconds)}: {crash_in_words(invocation.crash)}"
        return f"{text}; the caller has an error, and a fresh process serves the next event", "red"
    what = "an answer" if invocation.kind == "response" else "an error"
    words = f"timed out and caught: the caller has {what} {after}, {spare}"
    failed = invocation.record and invocation.record[1].get("fallback_error")
    return (f"{words}; the fallback failed: {failed}", "yellow") if failed else (words, "green")


def crash_in_words(crash: dict[str, Any]) -> str:
    """Say what ended the process, where, and how much memory it used."""
    signal, location = crash["signal"], crash["location"]
    what = f"killed by {signal}" if signal else f"exited with status {crash['exit_status']}"
    where = f" in {location}" if location else ""
    limit = crash["memory_limit_mb"]
    of = f" of {limit}" if limit else ""
    return f"{what}{where}, memory peaked at {crash['memory_peak_mb']}{of} MB"
