"""Builds the record of a timeout, and fits it into one line within a bound.

The user's context, names and places may raise, or be endless. The event never appears in the
record, nor does the message of any exception except our own, because it may quote the event.
"""

from __future__ import annotations

import itertools
import json
import time

from watchdog_lambda._engine.snapshot import attribute, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from watchdog_lambda._engine.invocation import Firing

EVENT = "watchdog.timeout"

MOST_BYTES = 15 * 4096
"""The most bytes of a line: what a usual pipe (16 pages) takes at once with one page in use."""


def build(
    firing: Firing, outcome: str, now: float, last_resort: str | None = None
) -> dict[str, Any]:
    """Build the record of a timeout and its outcome."""
    details, timeline, policy = firing.details, firing.timeline, firing.policy
    context = firing.invocation.context
    record: dict[str, Any] = {
        "event": EVENT,
        "outcome": outcome,
        "request_id": details.request_id if details else "",
        "function_name": details.function_name if details else "",
        "function_version": attribute(context, "function_version"),
        "elapsed_ms": round(now * 1000),
        "remaining_ms": round((timeline.limit - now) * 1000),
        "grace_period_ms": round(timeline.grace_period * 1000),
        "location": details.location if details else "",
        "stack": details.stack if details else (),
        "threads": firing.other_stacks,
        "ended_after_ms": None if firing.ended_at is None else round(firing.ended_at * 1000),
        "hooks": [
            hook.as_dict()
            for records in (*(stage.records for stage in firing.stages), firing.after)
            for hook in records
        ],
        "interrupts": [
            {
                "exception": interrupt.name,
                "outcome": policy.outcome(interrupt),
                "after_ms": round(interrupt.at * 1000),
                "landed_after_ms": None
                if interrupt.landed_at is None
                else round(interrupt.landed_at * 1000),
                "location": interrupt.place,
            }
            for interrupt in policy.records
        ],
    }
    if firing.samples is not None and firing.samples.taken:
        record["time_spent"] = firing.samples.summary(firing.code)
    if policy.left_out:
        record["interrupts_left_out"] = policy.left_out
    if firing.fallback_error is not None:
        record["fallback_error"] = firing.fallback_error
    why = obstacle(firing, outcome)
    if why:
        record["obstacle"] = why
    if firing.severed:
        record["severed"] = list(firing.severed)
    if firing.recycled is not None:
        record["recycled"] = firing.recycled
    if last_resort:
        record["last_resort"] = last_resort
    return record


def obstacle(firing: Firing, outcome: str) -> str | None:
    """Return what delayed the interrupt, or may have; None if nothing did. Thread: any."""
    if firing.delivery == "injection":
        nudge = firing.services.nudge
        if nudge.refusal is not None:
            why = nudge.refusal
        elif nudge.number is None or nudge.is_ours():
            why = "the handler is not on the main thread"
        else:
            why = "other code has taken over the wake signal"
        return f"no nudge ({why}): an interrupt lands only once a blocked call has returned"
    if firing.delivery == "nudge" or firing.invocation.plan.settings.interrupt == "none":
        return None
    if not firing.may_interrupt:
        return (
            "a durable function: an interrupt's error would be final, while Lambda retries "
            "after a timeout; set INTERRUPT to be interrupted anyway"
        )
    if firing.policy.is_waiting:
        if outcome == "stuck":
            return "C code held the GIL, so the watchdog could not run until now"
        return "the handler ended before an interrupt was due"
    return f"nothing can interrupt it: no nudge ({firing.services.nudge.refusal}), no ctypes"


def dumps(record: dict[str, Any]) -> str:
    return json.dumps(
        {"level": "ERROR", "message": EVENT, "timestamp": timestamp(), **record}, default=text
    )


def fitted(record: dict[str, Any], make: Callable[[dict[str, Any]], bytes]) -> bytes:
    """Return the first line within the bound that `make` makes of the record, or of a cut one."""
    line = make(record)
    for sizes in _CUTS:
        if len(line) <= MOST_BYTES:
            break
        line = make(_cut(record, sizes))
    if len(line) > MOST_BYTES:
        raise OverflowError  # the formatter adds too much
    return line


# The most threads, frames of each, frames of the handler, entries of a list, characters of a text.
_CUTS = ((30, 5, 100, 20, 200), (10, 5, 40, 10, 150), (0, 0, 20, 4, 100), (0, 0, 0, 0, 80))


def _cut(record: dict[str, Any], sizes: tuple[int, int, int, int, int]) -> dict[str, Any]:
    """Cut the record: keep the innermost frames, and first and last entries; shorten names."""
    threads, frames, stack, entries, most = sizes

    def shorter(value: Any) -> Any:
        kind = value.__class__  # isinstance would narrow it to a container of unknown items
        if kind is str and len(value) > most:
            # Keep the beginning of a name, and the end of a place.
            return f"{value[: most // 3]}...{value[-(most - most // 3) :]}"
        if kind is dict:
            return {shorter(key): shorter(entry) for key, entry in value.items()}
        if kind in {list, tuple}:
            return [shorter(entry) for entry in value]
        return value

    def some(values: list[Any]) -> list[Any]:
        left_out = len(values) - entries
        return (
            values
            if left_out <= 0
            else values[: entries - entries // 2] + (values[len(values) - entries // 2 :])
        )

    less = {
        **record,
        "stack": _innermost(record["stack"], stack),
        "threads": {
            name: _innermost(places, frames)
            for name, places in itertools.islice(record["threads"].items(), threads)
        },
        "hooks": some(record["hooks"]),
        "interrupts": some(record["interrupts"]),
        "shortened": True,
    }
    return {key: shorter(value) for key, value in less.items()}


def _innermost(places: Sequence[str], most: int) -> Sequence[str]:
    return places[len(places) - most :] if len(places) > most else places


def timestamp() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
