"""The ratios that are kept in the repository, and how far a run may be from them.

Only what does not depend on the machine's speed is compared: one thing with another one of the
same run, counts, and memory. How far each may be is said where it is made, with the reason; the
file holds the figures alone, as they were on a quiet machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tools import ROOT

from .report import Ratio, digits

FILE: Final = ROOT / "benchmarks" / "baseline.json"


class Comparison(NamedTuple):
    """One ratio and the baseline's; None if that has no such ratio."""

    ratio: Ratio
    baseline: float | None

    @property
    def most(self) -> float | None:
        if self.baseline is None:
            return None
        return max(self.baseline * self.ratio.tolerance, self.ratio.floor)

    @property
    def is_worse(self) -> bool:
        """Whether it is more than that."""
        return self.most is not None and self.ratio.value > self.most

    def __str__(self) -> str:
        told = f"{self.ratio.name}: {digits(self.ratio.value)}"
        if self.most is None or self.baseline is None:
            return f"new     {told}; not in {FILE.name}: --update-baseline puts it there"
        verdict = "WORSE " if self.is_worse else "same  "
        why = f" ({self.ratio.why})" if self.is_worse else ""
        return f"{verdict}  {told}, was {digits(self.baseline)}, at most {digits(self.most)}{why}"


def read(file: Path = FILE) -> dict[str, float]:
    """The ratios that were; none if there is no file yet."""
    if not file.exists():
        return {}
    kept: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def compare(ratios: Iterable[Ratio], kept: dict[str, float]) -> Iterator[Comparison]:
    return (Comparison(ratio, kept.get(ratio.name)) for ratio in ratios)


def update(ratios: Iterable[Ratio], file: Path = FILE) -> None:
    """Keep these; those of parts that were not measured stay what they were."""
    kept = read(file) | {ratio.name: float(f"{ratio.value:.3g}") for ratio in ratios}
    file.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n", encoding="utf-8")
