"""What came of a whole run, and the file that it is kept in."""

from __future__ import annotations

import datetime as dt
import json
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Final, NamedTuple

from benchmarks.pages import as_json
from benchmarks.surroundings import machine, processor
from tools import ROOT

from . import answer, calls, counts, growth, idle, interrupts, start
from .report import SKIPPED, Found, Goal, Ratio

PARTS: Final = {
    part.name: part
    for part in (
        *(calls.PART, counts.PART, start.PART, interrupts.PART),
        *(answer.PART, idle.PART, growth.PART),
    )
}
"""In the order in which they are measured and told."""

_COMPARED: Final = ("awslambdaric", "stopit", "func_timeout", "wrapt_timeout_decorator", "dramatiq")
_VENDORS: Final = ("sentry-sdk", "ddtrace", "lumigo-tracer")
_DIGITS: Final = 5


class Results(NamedTuple):
    """A run: where, with what, and what each part has found."""

    date: str
    machine: str
    processor: str
    kernel: str
    python: str
    versions: dict[str, str]
    parts: dict[str, Found]

    @classmethod
    def new(cls) -> Results:
        """Of this machine, today, with nothing measured yet."""
        today = dt.datetime.now(dt.UTC).date().isoformat()
        kernel = re.match(r"[\d.]+", platform.release())
        return cls(
            date=today,
            machine=machine(),
            processor=processor(),
            kernel=kernel[0] if kernel else "",
            python=platform.python_version(),
            versions=_versions(),
            parts={},
        )

    def goals(self) -> Iterator[Goal]:
        for name, found in self.parts.items():
            if not is_missing(found):
                yield from PARTS[name].goals(found)

    def ratios(self) -> Iterator[Ratio]:
        for name, found in self.parts.items():
            if not is_missing(found):
                yield from PARTS[name].ratios(found)

    def to_json(self) -> str:
        """To be kept, with as many digits as mean anything."""
        whole = json.dumps(self._asdict())
        return as_json(json.loads(whole, parse_float=lambda n: float(f"{float(n):.{_DIGITS}g}")))

    @classmethod
    def from_json(cls, text: str) -> Results:
        return cls(**json.loads(text))


def is_missing(found: Found) -> bool:
    return set(found) == {SKIPPED}


def _versions() -> dict[str, str]:
    # The vendors' live in another environment; what is pinned is what is there.
    pinned = (ROOT / "requirements" / "wrappers.txt").read_text(encoding="utf-8")
    theirs = dict(re.findall(r"^(\S+)==(\S+)", pinned, re.MULTILINE))
    return {**{n: metadata.version(n) for n in _COMPARED}, **{n: theirs[n] for n in _VENDORS}}
