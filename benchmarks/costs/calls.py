"""The time that a call takes, by the way its handler is watched.

``python -m benchmarks.child costs.calls NAME`` is one way in a process of its own: it times
batches of calls, whenever it is told to.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from time import perf_counter_ns, sleep
from typing import Any, Final

from benchmarks.child import Channel
from benchmarks.children import Child
from watchdog_lambda import watch

from .contenders import CONTENDERS
from .registry import FIXED, NO_RIVALS, OURS, RECIPE, Handler, context, interpreters, noop
from .report import SKIPPED, Found, Goal, Part, Ratio, Table, Tell, digits, quantile

_BATCH_NS: Final = 700_000
"""Long compared with the clock's resolution; two are short compared with a scheduler's turn."""

GOAL_NS: Final = 600
"""Above bare; what the plot shows as the goal."""
_MOST_OF_RECIPE: Final = 0.25
_SLOW_NS: Final = 20_000

_SLOW_MACHINE: Final = (
    "It is one page of Python code, whose time depends on the machine: on a processor half as "
    "fast, or shared with busy neighbours, it takes twice as long. To reduce it, a part would have "
    "to be written in C."
)
_CHEAP_SYSTEM_CALLS: Final = (
    "The recipe makes four system calls, which are cheaper on this machine; our Python code is not."
)
_FIXED_LIMIT: Final = (
    "It does less: it does not read the context (the row *context read* shows what that costs), so "
    "it ends a message a fixed time after its start and not before a deadline, and its thread "
    "wakes every second. Only without reading the deadline could we be below it for certain."
)


def _measure(*, quick: bool, tell: Tell) -> Found:
    """All of them in turns, A B C A B C, so that they see the same machine."""
    rounds = 80 if quick else 400
    skipped: list[str] = []
    with contextlib.ExitStack() as processes:
        tell("starting one process for each way")
        chosen = [name for name, way in CONTENDERS.items() if not (quick and way.is_vendors)]
        running = {
            name: processes.enter_context(Child("costs.calls", name, python=python))
            for name, python in interpreters(chosen, skipped).items()
        }
        for child in running.values():
            child.hear()  # all load at the same time
        times: dict[str, list[dict[str, float]]] = {name: [] for name in running}
        for turn in range(rounds):
            if turn % 50 == 0:
                tell(f"round {turn} of {rounds}, {len(running)} ways")
            for name, child in running.items():
                child.say("batch")
                times[name].append(child.hear())
        rows = {}
        for name, child in running.items():
            tell(f"{name}: calls one by one")
            rows[name] = _row(times[name])
            count = 20_000 // (10 if quick else 1) // (10 if rows[name]["median"] > _SLOW_NS else 1)
            child.say(f"singles {count}")
            rows[name]["single"] = child.hear()
    return {"rounds": rounds, "ways": rows, SKIPPED: skipped}


def _row(times: list[dict[str, float]]) -> dict[str, Any]:
    # From the unwatched batch just before.
    above = [time["watched"] - time["bare"] for time in times]
    return {
        "median": statistics.median(time["watched"] for time in times),
        "bare": statistics.median(time["bare"] for time in times),
        "above": statistics.median(above),
        # What other work disturbs least, to compare one with another. Not of the differences: those
        # are small where the unwatched batch was disturbed.
        "quiet": quantile((time["watched"] for time in times), 0.25)
        - quantile((time["bare"] for time in times), 0.25),
    }


def _tables(found: Found) -> list[Table]:
    ways = found["ways"]
    rows = [
        (
            name,
            f"{row['median']:,.0f}",
            "0" if name == "bare" else f"{row['above']:,.0f}",
            "" if name == "bare" else digits(row["quiet"] / ways[RECIPE]["quiet"]),
            f"{row['single']['p99']:,.0f}",
        )
        for name, row in ways.items()
    ]
    head = ("", "median", "above bare", "of the recipe's", "p99 of single calls")
    title = f"One call of a handler that does nothing, ns ({found['rounds']} rounds of batches)"
    return [Table(title, head, rows)]


def _goals(found: Found) -> list[Goal]:
    quiet = {name: row["quiet"] for name, row in found["ways"].items()}
    cost, cheapest = min((quiet[n], n) for n in quiet if n not in (*NO_RIVALS, FIXED))
    goals = []
    for name in OURS:
        beside, mine, share = f"{name}: beside", found["ways"][name]["above"], quiet[name]
        what = f"{beside} the cheapest other, {cheapest}"
        goals += [
            Goal(f"{name}: above bare", mine, GOAL_NS, "ns", reason=_SLOW_MACHINE),
            Goal(
                f"{beside} the SIGALRM recipe",
                share / quiet[RECIPE],
                _MOST_OF_RECIPE,
                "times",
                limit=1,
                reason=_CHEAP_SYSTEM_CALLS,
            ),
            Goal(what, share / cost, 1, "times", reason=_SLOW_MACHINE),
        ]
        if FIXED in quiet:
            what = f"{beside} {FIXED}"
            goals.append(Goal(what, share / quiet[FIXED], 1, "times", reason=_FIXED_LIMIT))
    return goals


def _ratios(found: Found) -> list[Ratio]:
    ways = found["ways"]
    why = (
        "both are timed in turns in one run, of which the quieter quarter counts; a neighbour "
        "that takes the cache hits Python code harder than system calls"
    )
    recipe = ways[RECIPE]["quiet"]
    return [
        Ratio(f"{name}: above bare, beside the recipe", ways[name]["quiet"] / recipe, 1.4, why)
        for name in OURS
    ]


PART: Final = Part(
    name="calls",
    title="What each invocation pays",
    about="Each way to watch a handler runs in a process of its own, around the same handler, "
    "which does nothing, and with the context of awslambdaric. The ways take turns in batches of "
    "0.7 ms, and each batch follows one of unwatched calls in the same process. *Above bare* is "
    "the median of the differences; two ways are compared by the quieter quarter of both. The p99 "
    "is that of calls that are timed one by one, and includes two readings of the clock.",
    measure=_measure,
    tables=_tables,
    goals=_goals,
    ratios=_ratios,
)


# ---- the process ---------------------------------------------------------------------------------


def main(name: str) -> None:
    """Tell one line when it is ready, and one for each line that comes."""
    channel = Channel()
    handler = CONTENDERS[name].wrap(noop)
    size, bare_size = batch_size(handler), batch_size(noop)
    channel.tell(size=size)
    for line in sys.stdin:
        given = later()
        if line.startswith("singles"):
            # Each call by itself, two readings of the clock included.
            singles = [batch(handler, given, 1) for _ in range(int(line.split()[1]))]
            channel.tell(p99=quantile(singles, 0.99))
            continue
        # The unwatched ones just before, in the same process: what is left is the watching.
        bare = batch(noop, given, bare_size) / bare_size
        channel.tell(bare=bare, watched=batch(handler, given, size) / size)


def later() -> Any:
    """A context whose deadline is later than that of the first calls, as every later one's is.

    The same deadline would seem to come earlier by up to a millisecond, since the runtime tells
    whole ones, and our thread be rung for that.
    """
    return context(later_ms=1000)


def batch(handler: Handler, given: Any, size: int) -> int:
    calls = range(size)
    began = perf_counter_ns()
    for _ in calls:
        handler(None, given)
    return perf_counter_ns() - began


def batch_size(handler: Handler) -> int:
    batch(handler, context(), 50)
    sleep(0.05)  # whatever starts at the first call has started, and has had its turn
    size = 1
    # The shortest of some: a turn of the scheduler's must not pass for the calls' own time, or a
    # batch would be a few calls with cold caches.
    while (taken := min(batch(handler, later(), size) for _ in range(3))) < _BATCH_NS // 4:
        size *= 2
    return max(1, size * _BATCH_NS // taken)


class Above:
    """What a call of ours takes above bare, again and again."""

    def __init__(self) -> None:
        self._watched = watch(noop)
        self._size, self._bare_size = batch_size(self._watched), batch_size(noop)

    def time(self, rounds: int) -> float:
        """Nanoseconds above bare, in the state that the process is in."""
        # Not of the differences: those are small where the unwatched batch was disturbed.
        bare = quantile((batch(noop, later(), self._bare_size) for _ in range(rounds)), 0.25)
        above = quantile((batch(self._watched, later(), self._size) for _ in range(rounds)), 0.25)
        return above / self._size - bare / self._bare_size
