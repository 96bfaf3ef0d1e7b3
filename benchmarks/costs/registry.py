"""All parts, in the order in which they are measured and told."""

from __future__ import annotations

from typing import Final

from . import answer, calls, counts, growth, idle, interrupts, start

PARTS: Final = {
    part.name: part
    for part in (
        calls.PART,
        counts.PART,
        start.PART,
        interrupts.PART,
        answer.PART,
        idle.PART,
        growth.PART,
    )
}
